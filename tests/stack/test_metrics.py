"""Metrics on their two ways: scraped from the sidecar, and pushed through the Collector."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.stack.components.collector import Collector
from tests.stack.components.http import post_json
from tests.stack.components.process import wait_until
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.vllm import Vllm

Series = tuple[str, frozenset[tuple[str, str]]]


def series(exposition: str) -> set[Series]:
    """Names and labels. An empty label is none."""
    return {
        (sample.name, frozenset((name, bound(name, value)) for name, value in sample.labels.items() if value))
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def bound(name: str, value: str) -> str:
    """Of a bucket: `1.0` and `1` are the same one."""
    return str(float(value)) if name == "le" else value


def without_origin(found: set[Series]) -> set[Series]:
    """`found` without the labels that the Collector adds."""
    return {
        (name, frozenset(pair for pair in labels if pair[0] not in {"job", "instance"}))
        for name, labels in found
    }


def test_metrics_pushed_are_the_metrics_shown(
    vllm: Vllm, collector: Collector, sidecar: Callable[..., Sidecar]
) -> None:
    """The Collector's Prometheus output has every series of the sidecar's own /metrics, under the same name."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }
    running = sidecar(vllm.url, environment=environment)
    body = {"model": vllm.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    assert post_json(f"{running.url}/v1/chat/completions", body)[0] == 200

    def of_our_call() -> set[Series]:
        shown = series(running.metrics())
        return (
            shown
            if any(name == "gen_ai_client_operation_duration_seconds_count" for name, _ in shown)
            else set()
        )

    shown = wait_until(of_our_call, what="the call in /metrics")

    def missing() -> set[Series]:
        return shown - without_origin(series(collector.metrics()))

    wait_until(lambda: not missing(), what="every series in the Collector")
