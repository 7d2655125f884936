"""The drift dashboard: what has drifted, by how much, into what shape, and whether all of it was seen."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import barchart, common, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from grafana.definition.links import DASHBOARD_UID
from grafana.definition.queries import (
    DATASOURCE,
    SERIES,
    SIDECAR,
    IncidentAnnotation,
    admin_links,
    now,
    series,
    table,
    variables,
)

FEATURE = f'{SERIES}, feature=~"$feature"'
SCALED = f'{FEATURE}, scale=~"$scale"'
WHO = "{{model}} {{variant}}"

STATES = {
    "0": ("learning", "blue"),
    "1": ("stable", "green"),
    "2": ("drifting", "red"),
    "3": ("too few calls", "text"),
}


def drift_dashboard() -> str:
    """The dashboard as JSON."""
    dashboard = (
        builders.Dashboard("Driftline / Drift")
        .uid(DASHBOARD_UID)
        .description("Distributions of LLM traffic against their references, from Driftline's metrics.")
        .tags(["driftline", "llm"])
        .timezone("browser")
        .time("now-24h", "now")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables(variables())
        .annotation(IncidentAnnotation())
        .with_row(builders.Row("Now"))
        .with_panel(_pages())
        .with_panel(_tickets())
        .with_panel(_requests())
        .with_panel(_unseen())
        .with_panel(_states())
        .with_row(builders.Row("$feature").repeat("feature"))
        .with_panel(_distance("PSI", "driftline_drift_psi", "psi"))
        .with_panel(_distance("KS distance", "driftline_drift_ks", "ks"))
        .with_panel(_distribution())
        .with_panel(_samples())
        .with_row(builders.Row("Traffic"))
        .with_panel(_outcomes())
        .with_panel(_first_token())
        .with_panel(_lost())
        .with_panel(_exports())
    )
    return json.dumps(dashboard.build(), cls=JSONEncoder, indent=2) + "\n"


def _pages() -> stat.Panel:
    return _tile(
        "Open pages",
        "Incidents that page: `driftline_drift_incident`.",
        f'sum(driftline_drift_incident{{{SERIES}, severity="page"}})',
    ).thresholds(_steps("green", ("red", 1)))


def _tickets() -> stat.Panel:
    return _tile(
        "Open tickets",
        "Incidents that can wait, those of features without calibrated thresholds among them: "
        "`driftline_drift_incident`.",
        f'sum(driftline_drift_incident{{{SERIES}, severity="ticket"}})',
    ).thresholds(_steps("green", ("orange", 1)))


def _requests() -> stat.Panel:
    return _tile(
        "Requests",
        "Requests that ended, however they ended: `driftline_relay_requests_total`.",
        f"sum(rate(driftline_relay_requests_total{{{SIDECAR}}}[$__rate_interval]))",
    ).unit("reqps")


def _unseen() -> stat.Panel:
    lost = f"sum(rate(driftline_telemetry_dropped_total{{{SIDECAR}}}[$__rate_interval]))"
    all_requests = f"sum(rate(driftline_relay_requests_total{{{SIDECAR}}}[$__rate_interval]))"
    return (
        _tile(
            "Not seen",
            "Telemetry dropped per request: `driftline_telemetry_dropped_total` over `driftline_relay_requests_total`.",
            f"{lost} / {all_requests}",
        )
        .unit("percentunit")
        .thresholds(_steps("green", ("orange", 1e-9)))
    )


def _states() -> statetimeline.Panel:
    mapping = {
        value: models.ValueMappingResult(text=text, color=color) for value, (text, color) in STATES.items()
    }
    return (
        statetimeline.Panel()
        .title("State of each feature")
        .description(
            "Verdict of the detector: `driftline_drift_state`. Click a bar for its incidents and traces."
        )
        .height(9)
        .span(24)
        .with_target(series(f"driftline_drift_state{{{FEATURE}}}", f"{WHO} {{{{feature}}}}"))
        .mappings([models.ValueMap(mapping)])
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .show_value(common_models.VisibilityMode.NEVER)
        .no_value("no traffic")
        .data_links(admin_links())
        .datasource(DATASOURCE)
    )


def _distance(title: str, metric: str, test: str) -> timeseries.Panel:
    return (
        _graph(
            title,
            f"Distance of the window from the reference: `{metric}`; dashed, the threshold for the window's size: "
            "`driftline_drift_threshold`.",
        )
        .span(6)
        .with_target(series(f"{metric}{{{SCALED}}}", f"{WHO} {{{{scale}}}}"))
        .with_target(
            series(f'driftline_drift_threshold{{{SCALED}, test="{test}"}}', f"threshold {WHO} {{{{scale}}}}")
        )
        .override_by_regexp("/^threshold /", _dashed("red"))
        .min(0)
        .data_links(admin_links())
    )


def _distribution() -> barchart.Panel:
    """Shares of the same bins side by side, in the order of their lower bounds."""
    chosen = f"{{{SCALED}}}"
    reference, window = f"driftline_reference_bin_count{chosen}", f"driftline_window_bin_count{chosen}"
    bounded = f'label_replace({reference}, "from", "$1", "bin", "\\\\((.+), .*")'
    steps: dict[str, dict[str, Any]] = {
        "joinByField": {"byField": "bin", "mode": "outer"},
        "convertFieldType": {"conversions": [{"targetField": "from", "destinationType": "number"}]},
        "sortBy": {"sort": [{"field": "from"}]},
        "organize": {
            "excludeByName": {"Time": True, "Time 1": True, "Time 2": True, "from": True},
            "indexByName": {"bin": 0, "Value #reference": 1, "Value #window": 2},
            "renameByName": {"Value #reference": "reference", "Value #window": "last window"},
        },
    }
    return (
        barchart.Panel()
        .title("Reference and last window")
        .description(
            "Share of calls in each bin: `driftline_reference_bin_count` beside `driftline_window_bin_count`, the last "
            "completed window."
        )
        .height(8)
        .span(8)
        .with_target(table(f"sum by (bin, from) ({bounded}) / scalar(sum({reference}))", "reference"))
        .with_target(table(f"sum by (bin) ({window}) / scalar(sum({window}))", "window"))
        .transformations(
            [models.DataTransformerConfig(name, options=options) for name, options in steps.items()]
        )
        .x_field("bin")
        .x_tick_label_rotation(-45)
        .unit("percentunit")
        .no_value("no traffic")
        .datasource(DATASOURCE)
    )


def _samples() -> timeseries.Panel:
    return (
        _graph(
            "Calls per window",
            "Calls that the last completed window holds: `driftline_drift_window_samples`.",
        )
        .span(4)
        .with_target(series(f"driftline_drift_window_samples{{{SCALED}}}", f"{WHO} {{{{scale}}}}"))
        .min(0)
    )


def _outcomes() -> timeseries.Panel:
    return (
        _graph("Requests by outcome", "How requests ended: `driftline_relay_requests_total`.")
        .span(6)
        .unit("reqps")
        .with_target(
            series(
                f"sum by (outcome) (rate(driftline_relay_requests_total{{{SIDECAR}}}[$__rate_interval]))",
                "{{outcome}}",
            )
        )
    )


def _first_token() -> timeseries.Panel:
    buckets = (
        "sum by (le) (rate(gen_ai_server_time_to_first_token_seconds_bucket"
        f'{{{SIDECAR}, gen_ai_request_model=~"$model"}}[$__rate_interval]))'
    )
    graph = (
        _graph("Time to first token", "Of streams: `gen_ai_server_time_to_first_token_seconds`.")
        .span(6)
        .unit("s")
    )
    for quantile in (0.5, 0.95, 0.99):
        graph.with_target(series(f"histogram_quantile({quantile}, {buckets})", f"p{quantile * 100:g}"))
    return graph


def _lost() -> timeseries.Panel:
    return (
        _graph("Telemetry lost", "What was dropped, and why: `driftline_telemetry_dropped_total`.")
        .span(6)
        .unit("ops")
        .with_target(
            series(
                "sum by (signal, reason) "
                f"(rate(driftline_telemetry_dropped_total{{{SIDECAR}}}[$__rate_interval]))",
                "{{signal}} {{reason}}",
            )
        )
    )


def _exports() -> timeseries.Panel:
    return (
        _graph("Telemetry exported", "Deliveries by outcome: `driftline_telemetry_export_total`.")
        .span(6)
        .unit("ops")
        .with_target(
            series(
                "sum by (signal, outcome) "
                f"(rate(driftline_telemetry_export_total{{{SIDECAR}}}[$__rate_interval]))",
                "{{signal}} {{outcome}}",
            )
        )
    )


def _tile(title: str, description: str, expression: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .height(4)
        .span(6)
        .with_target(now(expression))
        .no_value("no traffic")
        .datasource(DATASOURCE)
    )


def _graph(title: str, description: str) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .placement(common_models.LegendPlacement.BOTTOM)
    )
    return (
        timeseries.Panel()
        .title(title)
        .description(description)
        .height(8)
        .legend(legend)
        .show_points(common_models.VisibilityMode.NEVER)
        .no_value("no traffic")
        .datasource(DATASOURCE)
    )


def _steps(base: str, *steps: tuple[str, float]) -> builders.ThresholdsConfig:
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                models.Threshold(color=base, value=None),
                *(models.Threshold(color=c, value=v) for c, v in steps),
            ]
        )
    )


def _dashed(color: str) -> list[models.DynamicConfigValue]:
    properties: dict[str, Any] = {
        "custom.lineStyle": {"fill": "dash", "dash": [8, 8]},
        "color": {"mode": "fixed", "fixedColor": color},
    }
    return [models.DynamicConfigValue(name, value) for name, value in properties.items()]
