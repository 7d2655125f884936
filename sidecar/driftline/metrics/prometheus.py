"""`/metrics`: the same metrics in Prometheus' text format or OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from driftline.metrics.instruments import Histogram, Labels, Metric, is_gauge

_UNITS = {"s": "seconds"}


def prometheus_name(metric: Metric) -> str:
    """As the specification translates it, without a counter's `_total`.

    >>> prometheus_name(Histogram(name="driftline.relay.overhead", description="", unit="s", bounds=()))
    'driftline_relay_overhead_seconds'
    """
    unit = _UNITS.get(metric.unit, "")
    return metric.name.replace(".", "_") + (f"_{unit}" if unit else "")


class Exposition(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics
        # Ours alone: the library's default one would add its own process metrics.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that `accept`, a request's `Accept`, prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> list[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        for metric in self._metrics:
            yield _family(metric)


def _family(metric: Metric) -> Family:
    name, unit = prometheus_name(metric), _UNITS.get(metric.unit, "")
    labels = [label.replace(".", "_") for label in metric.labels]
    if isinstance(metric, Histogram):
        histogram = HistogramMetricFamily(name, metric.description, labels=labels, unit=unit)
        bounds = [*(str(float(bound)) for bound in metric.bounds), "+Inf"]
        for values, counts, total in metric.read():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            histogram.add_metric(_text(values), buckets, total)
        return histogram
    kind = GaugeMetricFamily if is_gauge(metric) else CounterMetricFamily
    family = kind(name, metric.description, labels=labels, unit=unit)
    for values, value in metric.read():
        family.add_metric(_text(values), value)
    return family


def _text(values: Labels) -> list[str]:
    return [str(value) for value in values]
