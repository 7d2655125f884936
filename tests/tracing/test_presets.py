"""Where spans go follows from the configuration and the standard variables, or is refused with the fix."""

from __future__ import annotations

import base64

import pytest

from driftline.tracing.presets import ExporterSettings, Target, check, targets

LANGFUSE = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-2"}


def target(environ: dict[str, str] | None = None, **settings: object) -> Target:
    (one,) = targets([ExporterSettings(**settings)], environ or {})  # type: ignore[arg-type]
    return one


def test_nothing_configured_is_nowhere() -> None:
    """The specified default, a Collector on localhost, would fail loudly for everyone without one."""
    assert targets([], {}) == []


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/own"}, "http://c:4318/own"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "http://c:4317",
        ),
    ],
)
def test_standard_variables_alone_are_enough(environ: dict[str, str], endpoint: str) -> None:
    """A signal's own endpoint is taken as it stands; the common one is a base for the path."""
    assert [(t.name, t.endpoint) for t in targets([], environ)] == [("otlp", endpoint)]


def test_headers_of_the_standard_variables_go_to_the_standard_receiver_and_to_nobody_else() -> None:
    """They are likely to hold its key."""
    environ = LANGFUSE | {"OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=a%20b,x-tenant=t"}
    assert target(environ, headers={"x-tenant": "u"}).headers == {"api-key": "a b", "x-tenant": "u"}
    assert "api-key" not in target(environ, preset="langfuse").headers


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "grpc"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http/protobuf",
        ),
    ],
)
def test_the_protocol_variable_of_the_signal_wins(environ: dict[str, str], protocol: str) -> None:
    assert [t.protocol for t in targets([], {"OTEL_TRACES_EXPORTER": "otlp"} | environ)] == [protocol]


def test_several_standard_exporters() -> None:
    names = [t.name for t in targets([], {"OTEL_TRACES_EXPORTER": "otlp, console"})]
    assert names == ["otlp", "console"]


@pytest.mark.parametrize(
    "environ",
    [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": " TRUE"}],
)
def test_switched_off(environ: dict[str, str]) -> None:
    assert targets([ExporterSettings(endpoint="http://c:4318")], environ) == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER names zipkin; known are otlp, console, none",
        ),
        ({"OTEL_TRACES_EXPORTER": "none,otlp"}, "none goes with no other"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'; known are http/protobuf and grpc",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'c:4318'; write a URL such as http://localhost:4318",
        ),
    ],
)
def test_variables_we_cannot_follow_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets([], environ)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("http://c:4318/v1/traces", "http://c:4318/v1/traces"),
    ],
)
def test_an_otlp_endpoint_may_be_the_base_or_the_whole(endpoint: str, url: str) -> None:
    assert target(endpoint=endpoint, headers={"k": "v"}) == Target(
        name="otlp", protocol="http/protobuf", endpoint=url, headers={"k": "v"}
    )


def test_a_grpc_endpoint_has_no_path() -> None:
    assert target(endpoint="http://c:4317", protocol="grpc").endpoint == "http://c:4317"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "https://cloud.langfuse.com/api/public/otel/v1/traces"),
        ({"LANGFUSE_HOST": "http://l:3000"}, "http://l:3000/api/public/otel/v1/traces"),
        ({"LANGFUSE_BASE_URL": "http://l:3000/"}, "http://l:3000/api/public/otel/v1/traces"),
    ],
)
def test_langfuse_needs_only_its_keys(environ: dict[str, str], url: str) -> None:
    assert target(LANGFUSE | environ, preset="langfuse") == Target(
        name="langfuse",
        protocol="http/protobuf",
        endpoint=url,
        headers={
            "authorization": "Basic " + base64.b64encode(b"pk-lf-1:sk-lf-2").decode(),
            "x-langfuse-ingestion-version": "4",
        },
    )


@pytest.mark.parametrize("missing", sorted(LANGFUSE))
def test_a_missing_langfuse_key_is_named(missing: str) -> None:
    with pytest.raises(
        ValueError, match=f"preset langfuse needs {missing}: set it in the sidecar's environment"
    ):
        target({key: value for key, value in LANGFUSE.items() if key != missing}, preset="langfuse")


def test_phoenix_and_langsmith() -> None:
    assert target(preset="phoenix") == Target(
        name="phoenix", protocol="http/protobuf", endpoint="http://localhost:6006/v1/traces"
    )
    environ = {
        "PHOENIX_API_KEY": "k",
        "PHOENIX_PROJECT_NAME": "p",
        "PHOENIX_COLLECTOR_ENDPOINT": "https://x.y",
    }
    assert target(environ, preset="phoenix") == Target(
        name="phoenix",
        protocol="http/protobuf",
        endpoint="https://x.y/v1/traces",
        headers={"authorization": "Bearer k", "x-project-name": "p"},
    )
    assert target({"LANGSMITH_API_KEY": "k", "LANGSMITH_PROJECT": "p"}, preset="langsmith") == Target(
        name="langsmith",
        protocol="http/protobuf",
        endpoint="https://api.smith.langchain.com/otel/v1/traces",
        headers={"x-api-key": "k", "langsmith-project": "p"},
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"endpoint": "collector:4318"},
            "endpoint is 'collector:4318'; write a URL such as http://localhost:4318",
        ),
        ({"preset": "langfuse", "protocol": "grpc"}, "langfuse takes OTLP over HTTP only"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExporterSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "statsd"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "c:4318"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
    ],
)
def test_all_that_decides_on_exporting_can_be_checked_beforehand(variable: str, value: str) -> None:
    check([], {})
    with pytest.raises(ValueError, match=variable):
        check([], {variable: value})
