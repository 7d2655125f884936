"""Counting is exact, and equal to the SDK's."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import ScopeMetrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from driftline.metrics.instruments import Counter, Histogram
from driftline.metrics.labels import LabelBound
from driftline.metrics.otlp import encode

BOUNDS = (0.1, 0.2, 0.5, 1.0)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.15, 0.2, 0.5, 0.7, 1.0, 1.5]) | st.floats(0, 3), max_size=50))
def test_a_histogram_is_the_sdks(values: list[float]) -> None:
    """Bounds are inclusive, the last bin is open; counts and sum are equal."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("t")
    theirs = meter.create_histogram("h", explicit_bucket_boundaries_advisory=list(BOUNDS))
    ours = Histogram(name="h", description="", bounds=BOUNDS, labels=("k",))
    for value in values:
        theirs.record(value, {"k": "v"})
        ours.cell(("v",)).observe(value)

    sent = ScopeMetrics.FromString(b"".join(encode([ours], 0, 1)))
    assert figures(sent) == (figures(scope_of(reader)) if values else [])


def scope_of(reader: InMemoryMetricReader) -> ScopeMetrics:
    data = reader.get_metrics_data()
    assert data is not None
    return encode_metrics(data).resource_metrics[0].scope_metrics[0]


def figures(scope: ScopeMetrics) -> list[tuple[object, ...]]:
    return [
        (str(p.attributes), list(p.bucket_counts), p.count, p.sum, list(p.explicit_bounds))
        for metric in scope.metrics
        for p in metric.histogram.data_points
    ]


def test_a_value_may_count_more_than_once() -> None:
    histogram = Histogram(name="h", description="", bounds=BOUNDS)
    histogram.cell(()).observe(0.2, 3)
    ((_, counts, total),) = histogram.read()
    assert (counts, total) == ([0, 3, 0, 0, 0], pytest.approx(0.6))


def test_reading_while_others_count_never_fails() -> None:
    counter = Counter(name="c", description="", labels=("k",))
    histogram = Histogram(name="h", description="", bounds=BOUNDS, labels=("k",))
    done = threading.Event()

    def count() -> None:
        for i in range(20_000):
            counter.add((f"v{i % 977}",))
            histogram.cell((f"v{i % 977}",)).observe(0.3)
        done.set()

    thread = threading.Thread(target=count)
    thread.start()
    while not done.is_set():
        counter.read()
        histogram.read()
    thread.join()
    assert sum(value for _, value in counter.read()) == 20_000
    assert sum(sum(counts) for _, counts, _ in histogram.read()) == 20_000


def test_a_label_bound_is_per_label() -> None:
    bound = LabelBound(2)
    seen = [bound("model", f"m{i}") for i in (1, 2, 3, 1, 4)]
    assert seen == ["m1", "m2", "__other__", "m1", "__other__"]
    assert bound("team", "t1") == "t1"
    assert bound.folded == 2


def test_a_bound_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="room for at least one value, not 0"):
        LabelBound(0)
