"""The configuration: one YAML file, `DRIFTLINE_*` variables and flags, checked as a whole before anything starts."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import yaml

from driftline.cost.prices import Price, TokenPricer
from driftline.drift.settings import DriftSettings
from driftline.features import FeatureReader
from driftline.listeners import Address
from driftline.quality.settings import QualitySettings
from driftline.relay.listener_tls import server_context
from driftline.relay.sampling import Sampler
from driftline.relay.settings import (
    DataPlane,
    Endpoint,
    Limits,
    ListenerTls,
    Pool,
    RelaySettings,
    Route,
    Timeouts,
    conflicts,
)
from driftline.relay.upstream_tls import client_context
from driftline.settings import Settings
from driftline.tracing import presets
from driftline.tracing.content import CaptureSettings
from driftline.tracing.presets import ExporterSettings

_log = logging.getLogger(__name__)
_PREFIX = "DRIFTLINE_"
_NOT_KEYS = frozenset({"CONFIG", "LOG", "LOG_LEVEL", "CACHE", "REQUIRE_STACK"})
"""Variables with our prefix that are not paths to keys."""
_SECRET = re.compile(r"token|secret|password|authorization|api[-_]?key", re.IGNORECASE)
_MASK = "********"
_FLAGS = {"pools": "--upstream", "admin.listen": "--admin", "state_dir": "--state-dir"}
"""Keys whose flag has another name."""


class AdminSettings(Settings, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:9464"
    """`host:port`, `[v6]:port`, or `:port` for all interfaces, which needs a token."""
    token: str = ""
    """Asked for by everything on the admin port except `/healthz`, `/readyz` and, by default, `/metrics`."""
    metrics_auth: bool = False
    """`/metrics` asks for the token too."""

    def __post_init__(self) -> None:
        if not Address(self.listen).loopback and not self.token:
            raise ValueError(
                f"listen is {self.listen}, which other machines can reach, and there is no token: "
                "set admin.token (or DRIFTLINE_ADMIN__TOKEN), or listen on 127.0.0.1"
            )
        if self.metrics_auth and not self.token:
            raise ValueError("metrics_auth needs a token: set admin.token")


class Config(Settings, frozen=True, kw_only=True):
    """Every key of the file. Each part is defined beside the code that it sets."""

    listen: str = "127.0.0.1:8080"
    """Where clients connect: `host:port`, `[v6]:port`, or `:port` for all interfaces."""
    tls: ListenerTls | None = None
    """Of the data port. Left out: plain HTTP."""
    admin: AdminSettings = AdminSettings()
    relays: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Relay processes; they share the port."""
    relay: RelaySettings = RelaySettings()
    state_dir: str = "./.driftline"
    """Holds references and drift windows, so that a restart goes on where it was."""
    pools: list[Pool] = []
    """The servers to stand in front of; `--upstream` is short for a pool of one."""
    routes: list[Route] = []
    """Paths that lead to a certain pool, or speak another API."""
    exporters: list[ExporterSettings] = []
    """Where spans go. Left out: where the standard `OTEL_*` variables say."""
    prices: list[Price] = []
    """The price table. A call that no row matches has no cost."""
    drift: DriftSettings = DriftSettings()
    quality: QualitySettings = QualitySettings()
    capture: CaptureSettings = CaptureSettings()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    def data_plane(self, environ: Mapping[str, str]) -> DataPlane:
        """The part that relays are told."""
        sampler = {
            name: environ[name]
            for name in ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")
            if name in environ
        }
        return DataPlane(
            pools=self.pools,
            routes=self.routes,
            relay=self.relay,
            limits=self.limits,
            timeouts=self.timeouts,
            tls=self.tls,
            sampler=sampler,
        )


class ConfigError(Exception):
    """The configuration cannot be used. The text says where, what, and how to mend it."""


def load(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    *,
    serving: bool = True,
) -> Config:
    """The effective configuration: flags over `DRIFTLINE_*` over the file over defaults.

    `flags` maps key paths (`admin.listen`) to values; None is not given. `serving` also checks what only a running
    sidecar needs: that exporters have their keys and features can be read from live traffic. Raises `ConfigError`.
    """
    document = _Document(path)
    for key, value in _from_environment(environ).items():
        document.set(key, value, f"{_PREFIX}{key.upper().replace('.', '__')}")
    for key, value in (flags or {}).items():
        if value is not None:
            document.set(key, value, _FLAGS.get(key, f"--{key}"))
    try:
        config = msgspec.convert(document.values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(document.explain(error)) from None
    checks: list[tuple[str, Callable[[], object]]] = [
        ("$.listen", lambda: Address(config.listen)),
    ]
    only_serving: list[tuple[str, Callable[[], object]]] = [
        ("$.tls", lambda: config.tls and server_context(config.tls)),
        ("$.drift.features", lambda: FeatureReader(config.drift.features)),
        ("$.prices", lambda: TokenPricer(config.prices)),
        ("$.exporters", lambda: presets.check(config.exporters, environ)),
        ("", lambda: Sampler.from_env(environ)),
        *(
            (f"$.pools[{i}].endpoints[{j}].tls", partial(client_context, endpoint.tls))
            for i, pool in enumerate(config.pools)
            for j, endpoint in enumerate(pool.endpoints)
            if endpoint.secure
        ),
        *(
            (f"$.pools[{i}].endpoints[{j}].url", partial(_check_elsewhere, endpoint, Address(config.listen)))
            for i, pool in enumerate(config.pools)
            for j, endpoint in enumerate(pool.endpoints)
        ),
    ]
    conflict = next(conflicts(config.pools, config.routes), None)
    if conflict is not None:
        place, problem = conflict
        raise ConfigError(document.located(f"$.{place}", problem))
    for place, check in [*checks, *(only_serving if serving else [])]:
        try:
            check()
        except ValueError as error:
            raise ConfigError(document.located(place, str(error))) from None
    return config


_ALSO_HERE = {
    "0.0.0.0": ("127.0.0.1", "localhost"),  # noqa: S104  # compared, not bound
    "::": ("127.0.0.1", "::1", "localhost"),
    "127.0.0.1": ("localhost",),
    "localhost": ("127.0.0.1",),
}
"""Other names by which one reaches who listens at an address."""


def _check_elsewhere(endpoint: Endpoint, listen: Address) -> None:
    """Raises `ValueError` where the upstream is the sidecar itself: each request would be sent to it again."""
    if endpoint.socket_path or endpoint.port != listen.port:
        return
    if endpoint.host in {listen.host, *_ALSO_HERE.get(listen.host, ())}:
        raise ValueError(f"{endpoint.url} is where this sidecar listens: name the server behind it")


def upstream_flag(url: str) -> list[dict[str, Any]]:
    """`--upstream URL` as the value of `pools`."""
    return [{"endpoints": [{"url": url}]}]


def masked(config: Config) -> dict[str, Any]:
    """The configuration as plain values, secrets masked."""

    def mask(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: mask(inner, "secret" if name == "headers" else key) for key, inner in value.items()}
        if isinstance(value, list):
            return [mask(inner, name) for inner in value]
        return _MASK if isinstance(value, str) and value and _SECRET.search(name) else value

    plain = msgspec.to_builtins(config)
    return {key: mask(value, key) for key, value in plain.items()}


class _Document:
    """The values of a file, and where each was written."""

    def __init__(self, path: Path | None) -> None:
        self.values: dict[str, Any] = {}
        self._path = path
        self._places: dict[str, str] = {}
        if path is None:
            return
        try:
            root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{path}:{line}: not YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(
                f"{path}:1: a configuration is a mapping of keys such as `listen: 127.0.0.1:8080`"
            )
        try:
            self.values = self._build(root, "$")
        except (RecursionError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: not a tree of plain values: {str(error).splitlines()[0]}") from None

    def _build(self, node: yaml.Node, place: str) -> Any:
        line = f"{self._path}:{node.start_mark.line + 1}"
        self._places[place] = line
        if isinstance(node, yaml.MappingNode):
            values: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                key.encode()
                inner = f"{place}.{key}"
                if key in values:
                    raise ConfigError(
                        f"{self._path}:{key_node.start_mark.line + 1}: {_spoken(inner)} is there twice; keep one"
                    )
                values[key] = self._build(value_node, inner)
                self._places[inner] = f"{self._path}:{key_node.start_mark.line + 1}"
            return values
        if isinstance(node, yaml.SequenceNode):
            return [self._build(inner, f"{place}[{i}]") for i, inner in enumerate(node.value)]
        node.value.encode()  # no half of a surrogate pair: what is no text cannot be told to the other processes
        constructor = yaml.SafeLoader("")
        return constructor.construct_object(node)

    def set(self, key: str, value: Any, source: str) -> None:
        *parents, last = key.split(".")
        values = self.values
        for parent in parents:
            inner = values.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"{source}: {parent} is not a mapping in {self._path}, so {key} cannot be set"
                )
            values = inner
        values[last] = value
        self._places["$." + key] = source

    def explain(self, error: msgspec.ValidationError) -> str:
        """Where, what, and the fix, from msgspec's message: `problem - at $.path`."""
        problem, _, place = str(error).rpartition(" - at ")
        place = place.strip("`")
        if not problem:
            problem, place = str(error), "$"
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", problem)
        if unknown:
            known = _fields_at(place)
            close = difflib.get_close_matches(unknown[1], known, 1)
            place = f"{place}.{unknown[1]}"
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
            problem = f"is not a key; {hint}"
        permitted = _permitted_at(place) if problem.startswith("Invalid enum value") else []
        if permitted:
            problem = f"{problem.removeprefix('Invalid enum value ')} is not one of {', '.join(permitted)}"
        missing = re.fullmatch(r"Object missing required field `(.*)`", problem)
        if missing:
            place, problem = f"{place}.{missing[1]}", "is missing"
        unfit = re.fullmatch(r"Expected `([^`]+)`(?:, got `[^`]+`| ([<>]=) (\S+))", problem)
        if unfit and "[...]" not in place:  # msgspec's word for some value of a mapping
            problem = _unfit(_MASK if _SECRET.search(place) else self._value_at(place), *unfit.groups())
        return self.located(place, problem)

    def _value_at(self, place: str) -> Any:
        value: Any = self.values
        for key, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", place):
            value = value[key] if key else value[int(index)]
        return value

    def located(self, place: str, problem: str) -> str:
        """`problem` behind the line and the key it is about, as far as they are known."""
        if place not in self._places and place.count(".") <= 1 and "[" not in place and place != "$":
            return problem  # not of the file: the text names a variable
        return f"{self._place(place)}: {_spoken(place)}: {problem}"

    def _place(self, place: str) -> str:
        """The most exact known origin of `place`."""
        while place and place not in self._places:
            place = re.sub(r"(\.[^.\[\]]+|\[[^\]]*\])$", "", place) if place != "$" else ""
        return self._places.get(place) or (str(self._path) if self._path else "configuration")


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text: put it in quotes",
    "array": "a list: write [a, b]",
    "object": "a mapping: write key: value",
}
"""What msgspec calls the types of values, in YAML's words."""


def _unfit(value: Any, wanted: str, relation: str | None, bound: str | None) -> str:
    """That `value` is of another type than `wanted` (msgspec's names), or out of bounds."""
    shown = {list: "a list", dict: "a mapping", type(None): "nothing"}.get(type(value), repr(value))
    if bound:
        return (
            f"{shown} is too {'small: at least' if relation == '>=' else 'large: at most'} {float(bound):g}"
        )
    names = [name for name in wanted.split(" | ") if name != "null"]
    return f"{shown} is not {' or '.join(_KINDS.get(name, name) for name in names)}"


def _spoken(place: str) -> str:
    return place.removeprefix("$.").removeprefix("$") or "the configuration"


def _type_at(place: str) -> Any:
    """The declared type at a path such as `$.pools[0].endpoints`, or None."""
    kind: Any = Config
    for step in re.findall(r"\.([^.\[\]]+)|(\[[^\]]*\])", place):
        if step[0]:
            fields = (
                {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
                if _is_struct(kind)
                else {}
            )
            kind = fields.get(step[0])
        else:
            kind = next(iter(get_args(kind)), None)
        structs = [option for option in get_args(kind) if _is_struct(option)]
        if not _is_struct(kind) and structs and getattr(kind, "__origin__", None) is not list:
            kind = structs[0]
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _fields_at(place: str) -> list[str]:
    kind = _type_at(place)
    return [field.encode_name for field in msgspec.structs.fields(kind)] if _is_struct(kind) else []


def _permitted_at(place: str) -> list[str]:
    """The words that may stand at a path."""
    kind = _type_at(place)
    literals = [option for option in [kind, *get_args(kind)] if get_origin(option) is Literal]
    return [str(word) for option in literals for word in get_args(option)]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """`DRIFTLINE_ADMIN__LISTEN=…` as `{"admin.listen": …}`. Text stays text; the rest is read as YAML."""
    values: dict[str, Any] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX)
        if name == variable or name in _NOT_KEYS:
            continue
        key = name.lower().replace("__", ".")
        kind = _type_at("$." + key) if key.strip(".") == key else None
        if kind is None:
            # Not an error: Kubernetes sets DRIFTLINE_PORT and the like for a service of that name.
            _log.warning("%s is not a key of the configuration: ignored", variable)
            continue
        text = environ[variable]
        try:
            values[key] = text if kind is str else yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"{variable}: {text!r} is not a YAML value") from None
    return values


__all__ = ["AdminSettings", "Config", "ConfigError", "Endpoint", "load", "masked", "upstream_flag"]
