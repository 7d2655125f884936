"""The same metrics go out over OTLP where the standard variables ask for it."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.metrics.sources import STARTED, empty, measured
from tests.metrics.test_calls import value
from tests.tracing.receivers import attributes, http_receiver, until


async def test_all_of_them_arrive_with_names_types_and_values() -> None:
    async with http_receiver() as received:
        metrics = measured({"OTEL_EXPORTER_OTLP_ENDPOINT": received.url})
        await metrics.shutdown(STARTED + 9, 5)
        arrived: dict[str, Metric] = {metric.name: metric for metric in received.metrics}

    assert received.paths == ["/v1/metrics"]
    assert set(arrived) == {metric.name for metric in metrics.all}
    duration = arrived["gen_ai.client.operation.duration"]
    assert (duration.unit, duration.histogram.aggregation_temporality) == ("s", 2)
    (point,) = duration.histogram.data_points
    assert (point.start_time_unix_nano, point.time_unix_nano) == (STARTED * 1e9, (STARTED + 9) * 1e9)
    assert (point.count, point.sum, list(point.explicit_bounds)[:2]) == (1, 2.0, [0.01, 0.02])
    assert attributes(list(point.attributes)) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "llama",
        "gen_ai.response.model": "llama-3.1",
        "server.address": "gpu-7.example",
        "server.port": 8000,
    }
    requests = arrived["driftline.relay.requests"].sum
    assert requests.is_monotonic
    assert sorted((attributes(list(p.attributes))["outcome"], p.as_int) for p in requests.data_points) == [
        ("complete", 8),
        ("timeout", 2),
    ]
    assert arrived["driftline.cost.usd"].sum.data_points[0].as_double == 0.00004
    assert [p.as_double for p in arrived["driftline.drift.psi"].gauge.data_points] == [0.031, 0.031]


async def test_a_push_goes_out_at_each_interval() -> None:
    async with http_receiver() as received:
        metrics = measured(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_METRIC_EXPORT_INTERVAL": "10000"}
        )
        pushed = []
        for second in range(31):
            metrics.tick(STARTED + second)
            due = second // 10
            await until(lambda due=due: len(received.paths) >= due)
            pushed.append(len(received.paths))
        await metrics.shutdown(STARTED + 31, 5)
    assert pushed == [0] * 10 + [1] * 10 + [2] * 10 + [3]
    assert len(received.paths) == 4


@pytest.mark.parametrize("step", [3600, -3600, -1])
async def test_pushes_go_on_when_the_clock_is_set(step: int) -> None:
    """Back by an hour, the next one must not wait for that hour to pass again."""
    async with http_receiver() as received:
        metrics = measured(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_METRIC_EXPORT_INTERVAL": "10000"}
        )
        for second in range(1, 41):
            metrics.tick(STARTED + second + (step if second > 5 else 0))
            await until(lambda second=second: len(received.paths) >= second // 10 - 1)
        assert 3 <= len(received.paths) <= 5
        await metrics.shutdown(STARTED + 41 + step, 5)


async def test_a_backend_that_hangs_holds_nobody_up() -> None:
    async with http_receiver() as received:
        received.hang = asyncio.Event()
        metrics = measured(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
        )
        for second in range(100):
            metrics.tick(STARTED + second)
        await until(lambda: bool(received.paths))
        await metrics.shutdown(STARTED + 100, 0.05)
        assert len(received.paths) == 1


async def test_pushes_are_counted_by_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = empty({"OTEL_METRICS_EXPORTER": "console"})
    await metrics.shutdown(STARTED, 5)
    assert json.loads(capsys.readouterr().out)["resourceMetrics"][0]["scopeMetrics"]
    assert value(metrics, "driftline_telemetry_export_total", signal="metrics", outcome="success") == 1


async def test_a_push_that_fails_is_counted_and_loses_nothing() -> None:
    async with http_receiver() as received:
        received.status = 400
        metrics = measured({"OTEL_EXPORTER_OTLP_ENDPOINT": received.url})
        metrics.tick(STARTED + 60)
        name = "driftline_telemetry_export_total"
        await until(lambda: value(metrics, name, signal="metrics", outcome="failure") == 1)
        received.status = 200
        await metrics.shutdown(STARTED + 61, 5)
    assert value(metrics, name, signal="metrics", outcome="success") == 1
    duration = next(m for m in received.metrics if m.name == "gen_ai.client.operation.duration")
    assert duration.histogram.data_points[0].count == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_METRICS_EXPORTER": "prometheus"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"},
    ],
)
async def test_nothing_is_pushed_unless_asked(environ: dict[str, str]) -> None:
    """`/metrics` works all the same."""
    metrics = measured(environ)
    await metrics.shutdown(STARTED, 5)
    assert value(metrics, "driftline_telemetry_export_total", signal="metrics") is None
    assert value(metrics, "driftline_relay_active_requests") == 4


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"OTEL_METRICS_EXPORTER": "statsd"},
            "OTEL_METRICS_EXPORTER names statsd; known are otlp, console, none",
        ),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "1m"}, "OTEL_METRIC_EXPORT_INTERVAL is '1m'; write a whole number"),
    ],
)
def test_variables_we_cannot_follow_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        empty(environ)


async def test_delta_temporality_is_not_followed_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
    }
    with caplog.at_level(logging.WARNING):
        await empty(environ).shutdown(STARTED, 5)
    assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is not followed" in caplog.text
