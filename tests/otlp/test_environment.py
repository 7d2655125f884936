"""The standard variables, as the specification has them; what cannot be followed is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.otlp.environment import Connection, SpanLimits


def test_without_variables_there_are_defaults() -> None:
    assert Connection.from_env("TRACES", {}) == Connection()
    assert SpanLimits.from_env({}) == SpanLimits(count=128, value_length=None)


def test_the_variable_of_the_signal_goes_before_the_common_one(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.touch()
    environ = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0.5",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "GZIP",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authorities),
        "OTEL_EXPORTER_OTLP_INSECURE": "True",
    }
    of_all = {"certificate": str(authorities), "insecure": True}
    assert Connection.from_env("TRACES", environ) == Connection(timeout=0.5, compression="gzip", **of_all)  # type: ignore[arg-type]
    assert Connection.from_env("METRICS", environ) == Connection(timeout=3, compression="none", **of_all)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "value", "fix"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "write seconds, above 0"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "write seconds, above 0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan", "write seconds, above 0"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "known are none, gzip, deflate"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/nowhere/key.pem", "which is no file"),
    ],
)
def test_what_cannot_be_followed_is_named_with_the_fix(variable: str, value: str, fix: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable} is '{value}'.*{fix}$"):
        Connection.from_env("TRACES", {variable: value})


def test_count_limits_of_spans_go_before_those_of_everything() -> None:
    environ = {"OTEL_ATTRIBUTE_COUNT_LIMIT": "5", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "7"}
    assert SpanLimits.from_env(environ) == SpanLimits(count=7)
