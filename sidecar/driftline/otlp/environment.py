"""The standard `OTEL_*` variables that decide what is exported, where to and how.

`driftline config check` and `driftline serve` refuse what cannot be followed before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Literal, cast, get_args

from driftline.otlp.resource import pairs
from driftline.settings import Settings

Environ = Mapping[str, str]
Signal = Literal["TRACES", "METRICS"]
Protocol = Literal["http/protobuf", "grpc"]
Compression = Literal["none", "gzip", "deflate"]

_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"


def disabled(environ: Environ) -> bool:
    """`OTEL_SDK_DISABLED`: nothing is exported; `/metrics` stays."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporters(signal: Signal, environ: Environ) -> list[str]:
    """What `OTEL_<signal>_EXPORTER` lists; `otlp` where it is unset and an OTLP endpoint is named.

    With neither there is none: the specification's default, a Collector on localhost, would fill the log of
    everyone who has not got one. `prometheus` is taken for metrics: they are on `/metrics` in any case.
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


def protocol(signal: Signal, environ: Environ) -> Protocol:
    """What `OTEL_EXPORTER_OTLP_[<signal>_]PROTOCOL` says; `http/protobuf` by default, as specified."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if value := environ.get(variable, "").strip().lower():
            if value == "grpc":
                return "grpc"
            if value == "http/protobuf":
                return "http/protobuf"
            raise ValueError(f"{variable} is {value!r}; known are http/protobuf and grpc")
    return "http/protobuf"


def endpoint(signal: Signal, environ: Environ, protocol: Protocol) -> str:
    """The signal's own is taken as it is; over HTTP the common one is a base, to which the path is added.

    Raises `ValueError` where HTTP needs a URL and there is none; gRPC takes `host:port` as well.
    """
    own, common = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
    variable = own if environ.get(own) else common
    port = 4317 if protocol == "grpc" else 4318
    url = environ.get(variable) or f"http://localhost:{port}"
    if protocol == "grpc":
        return url
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{variable} is {url!r}; write a URL such as http://localhost:4318")
    return url if variable == own else f"{url.removesuffix('/')}/v1/{signal.lower()}"


def headers(signal: Signal, environ: Environ) -> dict[str, str]:
    """Names in lower case."""
    variable = f"OTEL_EXPORTER_OTLP_{signal}_HEADERS"
    found = pairs(variable if environ.get(variable) else "OTEL_EXPORTER_OTLP_HEADERS", environ)
    return {name.lower(): value for name, value in found.items()}


def metric_interval(environ: Environ) -> float:
    """Seconds between pushes of metrics."""
    return _number(environ, _INTERVAL, 60_000) / 1000


class QueueSettings(Settings, frozen=True, kw_only=True):
    """Of each span exporter. The first three are `OTEL_BSP_*`, by their specified names."""

    max_queue_size: int = 2048
    """Spans."""
    max_export_batch_size: int = 512
    schedule_delay: float = 1.0
    """Seconds between batches; also about what a kill can lose."""
    max_queue_bytes: int = 32 * 1024 * 1024
    max_batch_bytes: int = 1024 * 1024
    """Below the 4 MiB that gRPC servers take by default, and what is written at once without a thought."""

    def __post_init__(self) -> None:
        if (
            min(self.max_queue_size, self.max_export_batch_size, self.max_queue_bytes, self.max_batch_bytes)
            < 1
        ):
            raise ValueError("sizes of an export queue must be at least 1")
        if self.max_export_batch_size > self.max_queue_size:
            raise ValueError(
                f"max_export_batch_size ({self.max_export_batch_size}) is larger than "
                f"max_queue_size ({self.max_queue_size}): a batch could never fill"
            )
        if not self.schedule_delay > 0:
            raise ValueError(f"schedule_delay is {self.schedule_delay}; it must be above 0")

    @classmethod
    def from_env(cls, environ: Environ) -> QueueSettings:
        """Raises `ValueError` naming the variable that is not a number in its range."""
        default = cls()
        size = _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", default.max_queue_size)
        batch = min(default.max_export_batch_size, size)
        return cls(
            max_queue_size=size,
            max_export_batch_size=_number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch),
            schedule_delay=_number(environ, "OTEL_BSP_SCHEDULE_DELAY", round(default.schedule_delay * 1000))
            / 1000,
        )


class SpanLimits(Settings, frozen=True, kw_only=True):
    """`OTEL_SPAN_ATTRIBUTE_*_LIMIT`, and `OTEL_ATTRIBUTE_*_LIMIT` where those are not set. None: no limit."""

    count: int | None = 128
    value_length: int | None = None

    @classmethod
    def from_env(cls, environ: Environ) -> SpanLimits:
        """Raises `ValueError` naming the variable that is not a number."""

        def read(name: str, default: int | None) -> int | None:
            for variable in (f"OTEL_SPAN_ATTRIBUTE_{name}_LIMIT", f"OTEL_ATTRIBUTE_{name}_LIMIT"):
                if text := environ.get(variable, "").strip():
                    if not text.isdecimal():
                        raise ValueError(f"{variable} is {text!r}; write a whole number, 0 or above")
                    return int(text)
            return default

        return cls(count=read("COUNT", cls().count), value_length=read("VALUE_LENGTH", cls().value_length))


class Connection(Settings, frozen=True, kw_only=True):
    """How a receiver is spoken to: `OTEL_EXPORTER_OTLP_[<signal>_]*`, the signal's own going first."""

    timeout: float = 10.0
    """Seconds for a batch, tries again included."""
    compression: Compression = "none"
    certificate: str = ""
    """File of the authorities that are trusted, instead of the system's."""
    client_key: str = ""
    client_certificate: str = ""
    insecure: bool | None = None
    """Of gRPC, where the endpoint does not begin with `http://` or `https://`."""

    @classmethod
    def from_env(cls, signal: Signal, environ: Environ) -> Connection:
        """Raises `ValueError` naming the variable that cannot be followed."""

        def read(name: str) -> tuple[str, str]:
            variables = (f"OTEL_EXPORTER_OTLP_{signal}_{name}", f"OTEL_EXPORTER_OTLP_{name}")
            return next(((v, text) for v in variables if (text := environ.get(v, "").strip())), ("", ""))

        insecure = read("INSECURE")[1].lower()
        return cls(
            timeout=_seconds(*read("TIMEOUT"), default=cls().timeout),
            compression=_compression(*read("COMPRESSION")),
            certificate=_file(*read("CERTIFICATE")),
            client_key=_file(*read("CLIENT_KEY")),
            client_certificate=_file(*read("CLIENT_CERTIFICATE")),
            insecure=insecure == "true" if insecure else None,
        )


def _seconds(variable: str, text: str, *, default: float) -> float:
    """In seconds, as OpenTelemetry's SDK for Python reads it; the specification has milliseconds."""
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < inf:
        raise ValueError(f"{variable} is {text!r}; write seconds, above 0")
    return seconds


def _compression(variable: str, text: str) -> Compression:
    for known in get_args(Compression):
        if text.lower() in ("", known):
            return cast("Compression", known)
    raise ValueError(f"{variable} is {text!r}; known are {', '.join(get_args(Compression))}")


def _file(variable: str, path: str) -> str:
    if path and not Path(path).is_file():
        raise ValueError(f"{variable} is {path!r}, which is no file")
    return path


def _number(environ: Environ, variable: str, default: int) -> int:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{variable} is {text!r}; write a whole number above 0")
    return int(text)
