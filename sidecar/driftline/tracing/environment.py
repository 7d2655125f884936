"""The standard `OTEL_*` variables that decide what is exported and how, read without the SDK.

So that `driftline config check` and `driftline serve` can refuse what cannot be followed before anything starts.
Endpoints, headers, timeouts, compression and certificates are read by the stock exporters themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from driftline.settings import Settings

Environ = Mapping[str, str]
Signal = Literal["TRACES", "METRICS"]
Protocol = Literal["http/protobuf", "grpc"]

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
    max_queue_bytes: int = 64 * 1024 * 1024
    max_batch_bytes: int = 2 * 1024 * 1024
    """Below the 4 MiB that gRPC servers take by default."""

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


def _number(environ: Environ, variable: str, default: int) -> int:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{variable} is {text!r}; write a whole number above 0")
    return int(text)
