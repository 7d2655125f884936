"""Where spans go: what an operator writes, resolved to an endpoint, headers and a protocol."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from driftline.settings import Settings

PresetName = Literal["otlp", "langfuse", "phoenix", "langsmith"]
Protocol = Literal["http/protobuf", "grpc"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

_TRACES = "/v1/traces"


class ExporterSettings(Settings, frozen=True, kw_only=True):
    """One backend. What is left out comes from the preset's own environment variables."""

    preset: PresetName = "otlp"
    endpoint: str | None = None
    """A base URL, or the full one with its path."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Sent with every batch, beside the preset's own."""
    protocol: Protocol | None = None

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            check_endpoint("endpoint", self.endpoint)
        if self.protocol == "grpc" and self.preset in ("langfuse", "langsmith"):
            raise ValueError(f"{self.preset} takes OTLP over HTTP only: leave protocol out")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One backend, resolved. None: the stock exporter reads the standard `OTEL_EXPORTER_OTLP_*` variable."""

    name: str
    protocol: Literal["http/protobuf", "grpc", "console"]
    endpoint: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)


def targets(settings: list[ExporterSettings], environ: Mapping[str, str]) -> list[Target]:
    """Every backend to send to: those configured, or else those that the standard variables name.

    With neither there is none: the specification's default, a Collector on localhost, would fill the log of
    everyone who has not got one. `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` switch all off.
    Raises `ValueError` naming the variable or key and the fix.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    kinds = standard_exporters("TRACES", environ)
    if kinds == ["none"]:
        return []
    if settings:
        return [_PRESETS[one.preset](one, environ) for one in settings]
    return [
        Target(name="console", protocol="console")
        if kind == "console"
        else _otlp(ExporterSettings(), environ)
        for kind in kinds
    ]


def standard_exporters(signal: Literal["TRACES", "METRICS"], environ: Mapping[str, str]) -> list[str]:
    """What `OTEL_<signal>_EXPORTER` lists; `otlp` where it is unset and an OTLP endpoint is named.

    `prometheus` is taken for metrics: they are on `/metrics` in any case.
    """
    variable = f"OTEL_{signal}_EXPORTER"
    kinds = [kind for part in environ.get(variable, "").split(",") if (kind := part.strip().lower())]
    known = ["otlp", "console", "none", *(["prometheus"] if signal == "METRICS" else [])]
    if unknown := set(kinds) - set(known):
        raise ValueError(f"{variable} names {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    if "none" in kinds and len(kinds) > 1:
        raise ValueError(f"{variable} is {','.join(kinds)}: none goes with no other")
    named = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return kinds or (["otlp"] if named else [])


def standard_protocol(signal: Literal["TRACES", "METRICS"], environ: Mapping[str, str]) -> Protocol:
    """What `OTEL_EXPORTER_OTLP_[<signal>_]PROTOCOL` says; `http/protobuf` by default, as specified."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if value := environ.get(variable, "").strip().lower():
            if value == "grpc":
                return "grpc"
            if value == "http/protobuf":
                return "http/protobuf"
            raise ValueError(f"{variable} is {value!r}; known are {' and '.join(PROTOCOLS)}")
    return "http/protobuf"


def check_endpoint(name: str, url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise ValueError(f"{name} is {url!r}; write a URL such as http://localhost:4318")


def _otlp(settings: ExporterSettings, environ: Mapping[str, str]) -> Target:
    protocol = settings.protocol or standard_protocol("TRACES", environ)
    endpoint = settings.endpoint
    if endpoint is not None and protocol != "grpc":
        endpoint = _with_path(endpoint, _TRACES)
    return Target(name="otlp", protocol=protocol, endpoint=endpoint, headers=settings.headers)


def _langfuse(settings: ExporterSettings, environ: Mapping[str, str]) -> Target:
    host = (
        settings.endpoint
        or _first(environ, "LANGFUSE_BASE_URL", "LANGFUSE_HOST")
        or "https://cloud.langfuse.com"
    )
    keys = [_key(environ, "langfuse", name) for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")]
    return Target(
        name="langfuse",
        protocol="http/protobuf",
        endpoint=_with_path(host, "/api/public/otel" + _TRACES),
        headers={
            "authorization": "Basic " + base64.b64encode(":".join(keys).encode()).decode(),
            "x-langfuse-ingestion-version": "4",
            **settings.headers,
        },
    )


def _phoenix(settings: ExporterSettings, environ: Mapping[str, str]) -> Target:
    endpoint = settings.endpoint or environ.get("PHOENIX_COLLECTOR_ENDPOINT") or "http://localhost:6006"
    headers = {}
    if key := environ.get("PHOENIX_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    if project := environ.get("PHOENIX_PROJECT_NAME"):
        headers["x-project-name"] = project
    protocol = settings.protocol or "http/protobuf"
    return Target(
        name="phoenix",
        protocol=protocol,
        endpoint=endpoint if protocol == "grpc" else _with_path(endpoint, _TRACES),
        headers=headers | settings.headers,
    )


def _langsmith(settings: ExporterSettings, environ: Mapping[str, str]) -> Target:
    host = settings.endpoint or environ.get("LANGSMITH_ENDPOINT") or "https://api.smith.langchain.com"
    headers = {"x-api-key": _key(environ, "langsmith", "LANGSMITH_API_KEY")}
    if project := environ.get("LANGSMITH_PROJECT"):
        headers["langsmith-project"] = project
    return Target(
        name="langsmith",
        protocol="http/protobuf",
        endpoint=_with_path(host, "/otel" + _TRACES),
        headers=headers | settings.headers,
    )


_PRESETS = {"otlp": _otlp, "langfuse": _langfuse, "phoenix": _phoenix, "langsmith": _langsmith}


def _with_path(url: str, path: str) -> str:
    """`url` as it is where it already ends in `/v1/traces`, else with `path` appended."""
    url = url.rstrip("/")
    check_endpoint("endpoint", url)
    return url if url.endswith(_TRACES) else url + path


def _key(environ: Mapping[str, str], preset: str, variable: str) -> str:
    value = environ.get(variable, "")
    if not value:
        raise ValueError(f"exporter preset {preset} needs {variable}: set it in the sidecar's environment")
    return value


def _first(environ: Mapping[str, str], *variables: str) -> str | None:
    return next((value for name in variables if (value := environ.get(name))), None)
