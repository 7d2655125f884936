"""The alerts, once. Prometheus rules and Grafana rules are both made of this.

Annotations use labels only: `$value` means different things to Prometheus and to Grafana.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grafana.definition.links import admin, label

BUDGET = 0.01
"""Share of requests that the upstream may fail: the service level is 99 %."""

LEAST = 10
"""Failures in the long window: one unlucky request on a quiet machine is nobody's emergency."""

FAILED = 'outcome=~"upstream_.+|timeout"'
"""Outcomes that are the upstream's fault; a client that leaves is none."""

REQUESTS = "driftline_relay_requests_total"
RATIO = "driftline:upstream_failures:ratio"
"""Recorded for each window; the window follows."""


@dataclass(frozen=True)
class Alert:
    """A condition worth a person's time. `docs/runbooks/NAME.md` says what to do."""

    name: str
    expression: str
    """PromQL; a sample means: fires."""
    summary: str
    """One line; may use the expression's labels as templates."""
    description: str
    wait: str = "0s"
    """How long the condition must hold."""
    severity: str | None = None
    """`page` or `ticket`; None where the expression brings the label itself."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of the dashboard that is linked."""
    traces: str = "/api/v1/traces"
    """Path on the admin port that lists the calls in question."""


@dataclass(frozen=True)
class Recording:
    name: str
    expression: str


@dataclass(frozen=True)
class BurnRate:
    """Spending the budget `factor` times too fast over both windows.

    Factors and windows are those of the Site Reliability Workbook, chapter 5, table 5-8: two per cent of a month's
    budget within an hour, five within six hours, ten within three days.
    """

    factor: float
    long: str
    short: str

    def holds(self) -> str:
        limit = f"({self.factor:g} * {BUDGET:g})"
        return (
            f"(\n"
            f"  {RATIO}{self.long} > {limit}\n"
            f"  and {RATIO}{self.short} > {limit}\n"
            f"  and sum without (outcome) (increase({REQUESTS}{{{FAILED}}}[{self.long}])) >= {LEAST}\n"
            f")"
        )


PAGE = (BurnRate(14.4, "1h", "5m"), BurnRate(6, "6h", "30m"))
TICKET = (BurnRate(3, "1d", "2h"), BurnRate(1, "3d", "6h"))

RECORDINGS = [
    Recording(
        f"{RATIO}{window}",
        f"sum without (outcome) (rate({REQUESTS}{{{FAILED}}}[{window}]))\n"
        f"/\n"
        f"sum without (outcome) (rate({REQUESTS}[{window}]))",
    )
    for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
]


def _upstream(severity: str, rates: tuple[BurnRate, ...]) -> Alert:
    return Alert(
        name="DriftlineUpstreamFailures",
        expression="\nor\n".join(rate.holds() for rate in rates),
        severity=severity,
        summary="The model server behind {{ $labels.instance }} fails too many requests",
        description=(
            "Requests end unreachable, broken off or timed out so often that the monthly budget of 1 % is spent "
            f"at least {min(rate.factor for rate in rates):g} times too fast."
        ),
    )


ALERTS = [
    Alert(
        name="DriftlineDrift",
        expression="driftline_drift_incident == 1",
        summary="{{ $labels.feature }} of {{ $labels.model }} has drifted",
        description=(
            "The distribution of {{ $labels.feature }} in the traffic of model {{ $labels.model }}"
            "{{ with $labels.variant }}, variant {{ . }},{{ end }} has left its reference. The incident, with the "
            f"bins that moved and calls that are in them: {admin('/api/v1/incidents')}"
        ),
        variables={"model": label("model"), "variant": label("variant"), "feature": label("feature")},
        traces=f"/api/v1/traces?model={label('model')}",
    ),
    _upstream("page", PAGE),
    _upstream("ticket", TICKET),
    Alert(
        name="DriftlineDown",
        expression='up{job="driftline"} == 0',
        wait="2m",
        severity="page",
        summary="The sidecar at {{ $labels.instance }} does not answer",
        description=(
            "Prometheus has not reached the admin port for two minutes. If only the observer is gone, requests still "
            "pass unseen; if the sidecar is gone, its clients get no answers."
        ),
        traces="/healthz",
    ),
    Alert(
        name="DriftlineTelemetryLoss",
        # A label value that was folded is a figure less precise, not a call less seen.
        expression=(
            "sum by (job, instance, signal, reason) "
            '(increase(driftline_telemetry_dropped_total{reason!="label_folded"}[10m])) > 0'
        ),
        wait="5m",
        severity="ticket",
        summary="Telemetry of {{ $labels.instance }} is being lost",
        description=(
            "{{ $labels.signal }} is dropped for the reason {{ $labels.reason }}: spans, metrics and drift no longer "
            "show all of the traffic. Requests are not affected."
        ),
    ),
    Alert(
        name="DriftlineExportFailing",
        expression=(
            'sum by (job, instance, signal) (rate(driftline_telemetry_export_total{outcome!="success"}[5m])) > 0'
        ),
        wait="15m",
        severity="ticket",
        summary="{{ $labels.instance }} cannot deliver {{ $labels.signal }}",
        description=(
            "Exports have been failing for a quarter of an hour. What is not delivered is kept for a while and then "
            "lost."
        ),
    ),
]
