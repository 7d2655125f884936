"""What relays, exporters and the detector know comes out as it is."""

from __future__ import annotations

from driftline.drift.verdict import State
from tests.metrics.sources import Detector, empty, incident, verdict
from tests.metrics.test_calls import value


def test_the_relays_totals() -> None:
    metrics = empty()
    assert value(metrics, "driftline_relay_active_requests") == 4
    assert value(metrics, "driftline_relay_requests_total", outcome="complete") == 8
    assert value(metrics, "driftline_relay_requests_total", outcome="timeout") == 2


def test_every_loss_has_a_signal_and_a_reason() -> None:
    metrics = empty()
    name = "driftline_telemetry_dropped_total"
    assert value(metrics, name, signal="exchanges", reason="channel_full") == 1
    assert value(metrics, name, signal="traces", reason="queue_full") == 3
    assert value(metrics, name, signal="calls", reason="drift_fault") == 2
    assert value(metrics, "driftline_telemetry_export_total", signal="traces", outcome="success") == 7
    assert value(metrics, "driftline_telemetry_export_total", signal="traces", outcome="failure") == 1


def test_verdicts_are_gauges_by_scale() -> None:
    metrics = empty()
    at = {"feature": "input_tokens", "model": "llama", "variant": "canary", "scale": "1h"}
    assert value(metrics, "driftline_drift_psi", **at) == 0.031
    assert value(metrics, "driftline_drift_ks", **at) == 0.07
    assert value(metrics, "driftline_drift_threshold", test="psi", **at) == 0.12
    assert value(metrics, "driftline_drift_threshold", test="ks", **at) == 0.11
    assert value(metrics, "driftline_drift_window_samples", **at) == 300
    assert value(metrics, "driftline_drift_calibrated", **at) == 1
    assert value(metrics, "driftline_window_bin_count", bin="(128, +inf)", reference="abc123", **at) == 200
    assert value(metrics, "driftline_reference_bin_count", bin="missing", reference="abc123", **at) == 0
    assert value(metrics, "driftline_window_le_count", bin="128", reference="abc123", **at) == 100
    assert value(metrics, "driftline_window_le_count", bin="+Inf", reference="abc123", **at) == 300
    assert value(metrics, "driftline_window_end_timestamp_seconds", scale="1h") == 1_752_384_000
    assert value(metrics, "driftline_feature_bin_total", bin="(64, 128]") == 60


def test_what_was_not_judged_has_no_figure() -> None:
    """No PSI is not a PSI of 0."""
    detector = Detector()
    detector.found = [verdict()]
    detector.found[0].psi = detector.found[0].ks = None
    detector.found[0].tests = {}
    metrics = empty(drift=detector)
    assert value(metrics, "driftline_drift_psi") is None
    assert value(metrics, "driftline_drift_threshold") is None
    assert value(metrics, "driftline_drift_window_samples") == 300


def test_the_state_is_the_detectors_own_and_stays_while_an_incident_is_open() -> None:
    """One quiet window does not end an incident, and the gauge says so although that window's verdict is stable."""
    detector = Detector()
    assert value(empty(drift=detector), "driftline_drift_state") == 1
    detector.state = State.DRIFTING
    assert value(empty(drift=detector), "driftline_drift_state") == 2


def test_an_incident_goes_to_one_and_back_to_zero() -> None:
    """Zero and not absent, so that an alert resolves at once."""
    detector = Detector()
    metrics = empty(drift=detector)

    def gauges() -> tuple[float | None, float | None]:
        name = "driftline_drift_incident"
        return value(metrics, name, severity="page"), value(metrics, name, severity="ticket")

    assert gauges() == (0, 0)
    detector.opened = [incident("ticket")]
    assert gauges() == (0, 1)
    detector.opened = [incident("page")]
    assert gauges() == (1, 0)
    detector.opened = [incident("page", closed_at=2.0)]
    assert gauges() == (0, 0)


def test_an_incident_without_a_window_is_still_shown() -> None:
    detector = Detector()
    detector.found = []
    detector.opened = [incident("page")]
    assert value(empty(drift=detector), "driftline_drift_incident", severity="page") == 1
