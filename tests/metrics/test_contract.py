"""`/metrics` shows the metrics of the contract that are built, with exactly their labels, and no other."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.metrics.sources import measured

SEMCONV = {
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "server_address",
    "server_port",
}
SCALE = {"feature", "model", "variant", "scale"}
BIN = SCALE | {"bin", "reference"}

CONTRACT = {
    "gen_ai_client_operation_duration_seconds": ("histogram", SEMCONV | {"error_type"}),
    "gen_ai_client_token_usage": ("histogram", SEMCONV | {"gen_ai_token_type"}),
    "gen_ai_server_time_to_first_token_seconds": ("histogram", SEMCONV),
    "gen_ai_server_time_per_output_token_seconds": ("histogram", SEMCONV),
    "driftline_drift_psi": ("gauge", SCALE),
    "driftline_drift_ks": ("gauge", SCALE),
    "driftline_drift_threshold": ("gauge", SCALE | {"test"}),
    "driftline_drift_window_samples": ("gauge", SCALE),
    "driftline_drift_state": ("gauge", {"feature", "model", "variant"}),
    "driftline_drift_calibrated": ("gauge", SCALE),
    "driftline_window_bin_count": ("gauge", BIN),
    "driftline_window_le_count": ("gauge", BIN),
    "driftline_reference_bin_count": ("gauge", BIN),
    "driftline_window_end_timestamp_seconds": ("gauge", {"model", "variant", "scale", "reference"}),
    "driftline_drift_incident": ("gauge", {"feature", "model", "variant", "severity"}),
    "driftline_feature_bin_total": ("counter", {"feature", "model", "variant", "bin"}),
    "driftline_quality_total": ("counter", {"signal", "outcome", "model", "variant"}),
    "driftline_cost_usd_total": ("counter", {"kind", "team", "product", "feature", "model", "variant"}),
    "driftline_relay_overhead_seconds": ("histogram", {"phase"}),
    "driftline_relay_active_requests": ("gauge", set()),
    "driftline_relay_requests_total": ("counter", {"outcome"}),
    "driftline_telemetry_dropped_total": ("counter", {"signal", "reason"}),
    "driftline_telemetry_export_total": ("counter", {"signal", "outcome"}),
}


def shown(accept: str = "") -> dict[str, tuple[str, set[str]]]:
    body, content_type = measured().exposition(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    seen = {}
    for family in parse(body.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert family.samples, name
        assert family.documentation, name
        seen[name] = (family.type, labels)
    return seen


@pytest.mark.parametrize("name", CONTRACT)
def test_a_metric_of_the_contract_has_its_type_and_labels(name: str) -> None:
    assert shown()[name] == CONTRACT[name]


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_nothing_else_is_shown_in_any_format(accept: str) -> None:
    assert shown(accept) == CONTRACT


def test_without_a_detector_there_is_no_drift_metric() -> None:
    body, _ = measured(drift=None).exposition()
    names = {family.name for family in parse_text(body.decode())}
    assert not [name for name in names if "drift_" in name or "window" in name or "bin" in name]
