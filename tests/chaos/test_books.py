"""What is read of the sidecar in a chaos run."""

from __future__ import annotations

import json

from chaos import books


def test_kills_are_expected_in_a_log_and_exceptions_are_not(tmp_path):
    log = tmp_path / "log"
    lines = [
        {"role": "supervisor", "event": "relay 0 ended: killed by SIGKILL", "level": "error"},
        {"role": "relay", "event": "background work failed", "exception": "Traceback …\nKeyError: 1"},
    ]
    log.write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + "Fatal Python error\n", encoding="utf-8"
    )
    assert books.faults(log) == ["relay: background work failed: KeyError: 1", "Fatal Python error"]


def test_the_metrics_hold_the_same_books():
    exposition = """\
# TYPE driftline_relay_requests_total counter
driftline_relay_requests_total{outcome="complete"} 90.0
driftline_relay_requests_total{outcome="relay_lost"} 10.0
# TYPE driftline_telemetry_dropped_total counter
driftline_telemetry_dropped_total{signal="exchanges",reason="relay_lost"} 12.0
driftline_telemetry_dropped_total{signal="exchanges",reason="too_large"} 0.0
driftline_telemetry_dropped_total{signal="traces",reason="observer_lost"} 5.0
"""
    assert books._metrics(exposition) == (100, {"relay_lost": 12})
