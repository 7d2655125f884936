"""Prometheus' and Alertmanager's own tools accept what is shipped, and the rules do what they say."""

from __future__ import annotations

import subprocess

import pytest

from tests.stack.components import required
from tests.stack.components.prometheus import GRAFANA

CHECKS = [
    ("promtool", "check", "config", "prometheus/prometheus.yml"),
    ("promtool", "check", "rules", "--lint-fatal", "prometheus/rules.yaml"),
    ("promtool", "test", "rules", "prometheus/rules_test.yaml"),
    ("amtool", "check-config", "alertmanager/alertmanager.yml"),
]


@pytest.mark.parametrize("command", CHECKS, ids=" ".join)
def test_tool_accepts(command: tuple[str, ...]) -> None:
    """Each example and each rule, in the oldest supported release (Debian's)."""
    program, *arguments = command
    done = subprocess.run(
        [required.command(program), *arguments], cwd=GRAFANA, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=DriftlineDrift", "severity=page"], "on-call"),
        (["alertname=DriftlineDrift", "severity=ticket"], "tickets"),
        (["alertname=DriftlineDown", "severity=page"], "on-call"),
    ],
)
def test_severity_decides_who_is_told(labels: list[str], receiver: str) -> None:
    """Pages go to those on call, tickets to the queue."""
    file = GRAFANA / "alertmanager" / "alertmanager.yml"
    command = [required.command("amtool"), "config", "routes", "test", f"--config.file={file}", *labels]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == receiver
