"""Where spans go: what an operator writes, resolved to an endpoint, headers and a protocol."""

from __future__ import annotations

import base64
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from driftline.otlp import environment
from driftline.otlp.connect import Destination
from driftline.otlp.environment import Environ, Protocol
from driftline.settings import Settings

PresetName = Literal["otlp", "langfuse", "phoenix", "langsmith"]

_TRACES = "/v1/traces"


class ExporterSettings(Settings, frozen=True, kw_only=True):
    """One backend. What is left out comes from the preset's own environment variables."""

    preset: PresetName = "otlp"
    """What the backend is: sets the path, the authorization and its own headers."""
    endpoint: str | None = None
    """A base URL, or the full one with its path."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Sent with every batch, beside the preset's own."""
    protocol: Protocol | None = None
    """Left out: as `OTEL_EXPORTER_OTLP_PROTOCOL` says, and `http/protobuf` without it."""

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            check_endpoint("endpoint", self.endpoint)
        if self.protocol == "grpc" and self.preset in ("langfuse", "langsmith"):
            raise ValueError(f"{self.preset} takes OTLP over HTTP only: leave protocol out")


class Target(Destination, frozen=True, kw_only=True):
    """One backend, resolved."""

    name: str


def targets(settings: list[ExporterSettings], environ: Environ) -> list[Target]:
    """Every backend to send to: those configured, or else those that the standard variables name.

    `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` switch all off. Raises `ValueError` naming the
    variable or key and the fix.
    """
    kinds = environment.exporters("TRACES", environ)
    if environment.disabled(environ) or kinds == ["none"]:
        return []
    if settings:
        return [_PRESETS[one.preset](one, environ) for one in settings]
    return [
        Target(name="console", protocol="console")
        if kind == "console"
        else _otlp(ExporterSettings(), environ)
        for kind in kinds
    ]


def check(settings: list[ExporterSettings], environ: Environ) -> None:
    """Raises `ValueError` where something that decides on exporting cannot be followed."""
    targets(settings, environ)
    environment.QueueSettings.from_env(environ)
    environment.Connection.from_env("TRACES", environ)
    protocol = environment.protocol("METRICS", environ)
    if "otlp" in environment.exporters("METRICS", environ):
        environment.endpoint("METRICS", environ, protocol)
    environment.Connection.from_env("METRICS", environ)
    environment.metric_interval(environ)


def check_endpoint(name: str, url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise ValueError(f"{name} is {url!r}; write a URL such as http://localhost:4318")


def _otlp(settings: ExporterSettings, environ: Environ) -> Target:
    protocol = settings.protocol or environment.protocol("TRACES", environ)
    endpoint = settings.endpoint
    if endpoint is None:
        endpoint = environment.endpoint("TRACES", environ, protocol)
    elif protocol != "grpc":
        endpoint = _with_path(endpoint, _TRACES)
    headers = environment.headers("TRACES", environ) | settings.headers
    return Target(name="otlp", protocol=protocol, endpoint=endpoint, headers=headers)


def _langfuse(settings: ExporterSettings, environ: Environ) -> Target:
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


def _phoenix(settings: ExporterSettings, environ: Environ) -> Target:
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


def _langsmith(settings: ExporterSettings, environ: Environ) -> Target:
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


def _key(environ: Environ, preset: str, variable: str) -> str:
    value = environ.get(variable, "")
    if not value:
        raise ValueError(f"exporter preset {preset} needs {variable}: set it in the sidecar's environment")
    return value


def _first(environ: Environ, *variables: str) -> str | None:
    return next((value for name in variables if (value := environ.get(name))), None)
