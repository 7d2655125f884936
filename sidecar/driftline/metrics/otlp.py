"""The same metrics over OTLP, pushed at an interval where the standard variables ask for it."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import Counter as Counts
from collections.abc import Mapping

from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource

from driftline.metrics.instruments import Histogram, Labels, Metric, is_gauge
from driftline.tracing import environment
from driftline.tracing.export import quieten
from driftline.tracing.semconv import SCHEMA_URL
from driftline.tracing.spans import SCOPE

log = logging.getLogger(__name__)

_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_CUMULATIVE = export.AggregationTemporality.CUMULATIVE


def metrics_data(metrics: list[Metric], resource: Resource, started: int, now: int) -> export.MetricsData:
    """Everything measured, in the SDK's data model. `started` and `now` are nanoseconds since the epoch."""
    converted = [_metric(metric, started, now) for metric in metrics]
    scope = export.ScopeMetrics(
        scope=SCOPE,
        metrics=[metric for metric in converted if metric.data.data_points],
        schema_url=SCHEMA_URL,
    )
    return export.MetricsData(
        resource_metrics=[export.ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")]
    )


def _metric(metric: Metric, started: int, now: int) -> export.Metric:
    data: export.DataT
    if isinstance(metric, Histogram):
        data = export.Histogram(
            data_points=[
                export.HistogramDataPoint(
                    attributes=_attributes(metric, labels),
                    start_time_unix_nano=started,
                    time_unix_nano=now,
                    count=sum(counts),
                    sum=total,
                    bucket_counts=counts,
                    explicit_bounds=metric.bounds,
                    min=None,  # type: ignore[arg-type]  # optional in OTLP, and so in the exporter
                    max=None,  # type: ignore[arg-type]
                )
                for labels, counts, total in metric.read()
            ],
            aggregation_temporality=_CUMULATIVE,
        )
        return export.Metric(metric.name, metric.description, metric.unit, data)
    gauge = is_gauge(metric)
    points = [
        export.NumberDataPoint(
            attributes=_attributes(metric, labels),
            start_time_unix_nano=None if gauge else started,  # type: ignore[arg-type]
            time_unix_nano=now,
            value=value,
        )
        for labels, value in metric.read()
    ]
    data = export.Gauge(points) if gauge else export.Sum(points, _CUMULATIVE, is_monotonic=True)
    return export.Metric(metric.name, metric.description, metric.unit, data)


def _attributes(metric: Metric, labels: Labels) -> dict[str, str | int]:
    return {name: value for name, value in zip(metric.labels, labels, strict=True) if value != ""}


class Pusher:
    """Reads all metrics when a push is due and sends them from a thread of its own.

    Nothing is lost by a push that fails, or is left out because the last one is still on its way: totals go on.
    """

    def __init__(
        self,
        exporters: list[export.MetricExporter],
        metrics: list[Metric],
        resource: Resource,
        *,
        interval: float,
        started: float,
    ) -> None:
        self.batches: Counts[str] = Counts()
        self.dropped: Counts[str] = Counts()
        self._exporters = exporters
        self._metrics = metrics
        self._resource = resource
        self._interval = interval
        self._started = started
        self._due = started + interval
        self._waiting: queue.Queue[export.MetricsData | None] = queue.Queue(maxsize=1)
        self._worker = threading.Thread(target=self._work, name="push-metrics", daemon=True)
        if exporters:
            self._worker.start()

    @classmethod
    def from_env(
        cls, metrics: list[Metric], resource: Resource, environ: Mapping[str, str], *, started: float
    ) -> Pusher:
        """Where `OTEL_METRICS_EXPORTER` or an OTLP endpoint says so; else it does nothing.

        Raises `ValueError` naming the variable that cannot be followed.
        """
        kinds = [] if environment.disabled(environ) else environment.exporters("METRICS", environ)
        if kinds and environ.get(_TEMPORALITY, "cumulative").strip().lower() != "cumulative":
            log.warning("%s is not followed: metrics are exported as cumulative totals", _TEMPORALITY)
        exporters = [_exporter(kind, environ) for kind in kinds if kind in ("otlp", "console")]
        return cls(
            exporters, metrics, resource, interval=environment.metric_interval(environ), started=started
        )

    def tick(self, now: float) -> None:
        """Push where it is time to. `now` is seconds since the epoch."""
        if self._exporters and now >= self._due:
            self._due = now + self._interval
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(self._read(now))

    def shutdown(self, now: float, timeout: float) -> None:
        """Push once more, for at most about `timeout` seconds, and stop."""
        if not self._exporters:
            return
        deadline = time.monotonic() + timeout
        for last in (self._read(now), None):
            with contextlib.suppress(queue.Full):
                self._waiting.put(last, timeout=max(0.0, deadline - time.monotonic()))
        self._worker.join(max(0.0, deadline - time.monotonic()))
        for exporter in self._exporters:
            exporter.shutdown(timeout_millis=1)

    def _read(self, now: float) -> export.MetricsData:
        return metrics_data(self._metrics, self._resource, int(self._started * 1e9), int(now * 1e9))

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            for exporter in self._exporters:
                try:
                    delivered = exporter.export(data) is export.MetricExportResult.SUCCESS
                except Exception:
                    if not self.batches["failure"]:
                        log.exception("metrics could not be pushed")
                    delivered = False
                self.batches["success" if delivered else "failure"] += 1


def _exporter(kind: str, environ: Mapping[str, str]) -> export.MetricExporter:
    if kind == "console":
        return export.ConsoleMetricExporter()
    if environment.protocol("METRICS", environ) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415

        quieten("opentelemetry.exporter.otlp.proto.grpc.exporter")
        return grpc.OTLPMetricExporter()
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http  # noqa: PLC0415

    quieten("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    return http.OTLPMetricExporter()
