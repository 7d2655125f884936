"""What a Grafana server reads at its start: data source, dashboards and, for those who alert there, the alerts."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import alerting, expr, prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting as models
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from grafana.definition.alerts import ALERTS, Alert
from grafana.definition.links import Links
from grafana.definition.prometheus_rules import explained

DATASOURCE_UID = "driftline-prometheus"
EXPRESSION = "__expr__"
FOLDER = "Driftline"


def datasources() -> dict[str, Any]:
    # Without `apiVersion` Grafana reads an older form with other keys.
    prometheus_server = {
        "name": "Prometheus",
        "uid": DATASOURCE_UID,
        "type": "prometheus",
        "access": "proxy",
        "url": "$PROMETHEUS_URL",
        "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
    }
    return {"apiVersion": 1, "datasources": [prometheus_server]}


def dashboards() -> dict[str, Any]:
    provider = {
        "name": "driftline",
        "folder": FOLDER,
        "type": "file",
        "options": {"path": "$DRIFTLINE_DASHBOARDS"},
    }
    return {"apiVersion": 1, "providers": [provider]}


def rules(links: Links) -> dict[str, Any]:
    """The same alerts as in Prometheus: use one or the other, not both."""
    group = {
        "orgId": 1,
        "name": "driftline",
        "folder": FOLDER,
        "interval": "1m",
        "rules": [_plain(_rule(alert, links)) for alert in ALERTS],
    }
    return {"apiVersion": 1, "groups": [group]}


def _rule(alert: Alert, links: Links) -> alerting.Rule:
    rule = (
        alerting.Rule(f"{alert.name} ({alert.severity})" if alert.severity else alert.name)
        .uid("-".join(filter(None, (alert.name, alert.severity))).lower())
        .condition("B")
        .with_query(_query("A", _prometheus(alert.expression), DATASOURCE_UID))
        .with_query(_query("B", _above_zero("A"), EXPRESSION))
        .for_val(alert.wait)
        # PromQL answers with the series that fire: no series is how it says that all is well.
        .no_data_state("OK")
        .exec_err_state("Error")
        .annotations(explained(alert, links))
    )
    return rule.labels({"severity": alert.severity}) if alert.severity else rule


def _prometheus(expression: str) -> prometheus.Dataquery:
    # One for each series that fires, whatever its value: `up == 0` is 0 where it is true.
    return prometheus.Dataquery().expr(f"({expression}) * 0 + 1").instant().ref_id("A")


def _above_zero(ref: str) -> expr.TypeThreshold:
    evaluator = expr.ExprTypeThresholdConditionsEvaluator().type("gt").params([0])
    return (
        expr.TypeThreshold()
        .ref_id("B")
        .datasource(DataSourceRef(type_val=EXPRESSION, uid=EXPRESSION))
        .expression(ref)
        .conditions([expr.ExprTypeThresholdConditions().evaluator(evaluator)])
    )


def _query(ref: str, model: Any, datasource: str) -> alerting.Query:
    window = models.RelativeTimeRange(from_val=600, to=0)
    return alerting.Query(ref).datasource_uid(datasource).relative_time_range(window).model(model)


def _plain(rule: alerting.Rule) -> dict[str, Any]:
    """The keys that a provisioning file has: the group is around the rule, not in it."""
    document: dict[str, Any] = json.loads(json.dumps(rule.build(), cls=JSONEncoder))
    for key in ("folderUID", "orgID", "ruleGroup"):
        document.pop(key, None)
    return document
