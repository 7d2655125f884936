"""Queries, variables and links that panels share."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

SIDECAR = 'instance=~"$instance"'
SERIES = f'{SIDECAR}, model=~"$model", variant=~"$variant"'
"""Labels that choose what the dashboard is about; panels of one feature add `feature`."""


def series(expression: str, legend: str) -> prometheus.Dataquery:
    """Over time."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().datasource(DATASOURCE)


def now(expression: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).instant().datasource(DATASOURCE)


def table(expression: str, ref: str) -> prometheus.Dataquery:
    """The latest samples, one row each, their labels as columns."""
    return now(expression).format(PromQueryFormat.TABLE).ref_id(ref)


def variables() -> list[Builder[models.VariableModel]]:
    chosen = 'driftline_drift_state{model=~"$model"}'
    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _all(_label_values("instance", "Sidecar", "driftline_relay_active_requests")),
        _all(_label_values("model", "Model", "driftline_drift_state")),
        _all(_label_values("variant", "Variant", chosen)),
        _all(_label_values("feature", "Feature", chosen)),
        _label_values("scale", "Scale", 'driftline_drift_window_samples{model=~"$model"}'),
    ]


def _label_values(label: str, title: str, metric: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(label)
        .label(title)
        .query({"query": f"label_values({metric}, {label})", "refId": "variable"})
        .datasource(DATASOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _all(variable: builders.QueryVariable) -> builders.QueryVariable:
    """Any number of values, at first all. `.*` also takes series without the label: an unnamed variant has none."""
    return (
        variable.multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def admin_links() -> list[Builder[models.DashboardLink]]:
    """From a series to what the sidecar it comes from knows about it."""
    sidecar = "http://${__field.labels.instance}"
    return [
        builders.DashboardLink("Incidents")
        .url(f"{sidecar}/api/v1/incidents")
        .target_blank(target_blank=True),
        builders.DashboardLink("Latest traces")
        .url(f"{sidecar}/api/v1/traces?model=${{__field.labels.model:percentencode}}")
        .target_blank(target_blank=True),
    ]


class IncidentAnnotation(builders.AnnotationQuery):
    """Open incidents as regions. Prometheus' annotation fields are not in the typed model: they are added here."""

    def build(self) -> models.AnnotationQuery:
        return _WithFormat(
            name="Incidents",
            datasource=DATASOURCE,
            enable=True,
            icon_color="red",
            expr=f"driftline_drift_incident{{{SERIES}}} == 1",
        )


class _WithFormat(models.AnnotationQuery):
    def to_json(self) -> dict[str, object]:
        formats = {"titleFormat": "Drift of {{feature}}", "tagKeys": "severity,model,variant", "step": "60s"}
        return super().to_json() | formats
