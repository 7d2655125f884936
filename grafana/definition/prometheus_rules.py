"""The alerts as a Prometheus rule file."""

from __future__ import annotations

from typing import Any

import yaml

from grafana.definition.alerts import ALERTS, RECORDINGS, Alert
from grafana.definition.links import Links, admin


def rules(links: Links) -> dict[str, Any]:
    """What `rule_files:` of Prometheus takes, 2.42 or later."""
    recordings = [
        {"record": recording.name, "expr": _Expression(recording.expression)} for recording in RECORDINGS
    ]
    return {
        "groups": [
            {"name": "driftline-recordings", "rules": recordings},
            {"name": "driftline", "rules": [_rule(alert, links) for alert in ALERTS]},
        ]
    }


def explained(alert: Alert, links: Links) -> dict[str, str]:
    return {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": links.runbook(alert.name),
        "dashboard_url": links.dashboard(**alert.variables),
        "traces_url": admin(alert.traces),
    }


def dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def _rule(alert: Alert, links: Links) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": _Expression(alert.expression)}
    if alert.wait != "0s":
        rule["for"] = alert.wait
    if alert.severity:
        rule["labels"] = {"severity": alert.severity}
    return rule | {"annotations": explained(alert, links)}


class _Expression(str):
    """PromQL: a block of its own where it has lines."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, expression: _Expression) -> yaml.ScalarNode:
    style = "|" if "\n" in expression else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(expression), style=style)


_Dumper.add_representer(_Expression, _represent)
