"""Dashboards, rules and provisioning come out of one definition, and speak of metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftline.metrics import Metrics
from driftline.metrics.instruments import Histogram, Metric, Observed
from driftline.metrics.prometheus import prometheus_name
from grafana.definition.alerts import ALERTS
from grafana.definition.links import Links
from grafana.generate import files

ROOT = Path(__file__).parents[2]
GENERATED = files(Links())
DASHBOARDS = [json.loads(text) for path, text in GENERATED.items() if path.endswith(".json")]


def panels() -> Iterator[dict[str, Any]]:
    for dashboard in DASHBOARDS:
        for panel in dashboard["panels"]:
            yield from [panel, *panel.get("panels", [])]


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:driftline|gen_ai)_[a-z_]+(?=[{\[\s)]|$)", query))


def series_of(metric: Metric) -> set[str]:
    """The series names that Prometheus stores."""
    name = prometheus_name(metric)
    if isinstance(metric, Histogram):
        return {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return {name if isinstance(metric, Observed) and metric.kind == "gauge" else f"{name}_total"}


class NothingFound:
    """A detector that has not seen anything: what metrics exist does not depend on it."""

    def verdicts(self) -> list[Any]:
        return []

    incidents = bin_totals = verdicts


@pytest.fixture(scope="module")
def exported() -> set[str]:
    metrics = Metrics(
        relay=lambda: None,
        exports={},
        faults={},
        started=0,
        drift=NothingFound(),
        resource={},
        environ={},
    )
    return {name for metric in metrics.all for name in series_of(metric)}


@pytest.mark.parametrize("path", GENERATED)
def test_committed_files_are_what_the_definition_generates(path: str) -> None:
    """Byte for byte: `make dashboards` changes nothing."""
    assert (ROOT / "grafana" / path).read_text(encoding="utf-8") == GENERATED[path]


def test_every_panel_explains_the_metrics_it_shows() -> None:
    """A panel's description names each metric of its queries."""
    for panel in panels():
        if panel["type"] == "row":
            continue
        shown = {name for target in panel["targets"] for name in metrics_in(target["expr"])}
        assert shown, panel["title"]
        named = {name.removesuffix("_bucket") for name in shown}
        assert {name for name in named if f"`{name}`" in panel["description"]} == named, panel["title"]


def test_every_metric_in_panels_and_rules_is_exported(exported: set[str]) -> None:
    """No panel and no alert waits for a metric that the sidecar does not have."""
    rules = yaml.safe_load(GENERATED["prometheus/rules.yaml"])
    queries = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    queries += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for dashboard in DASHBOARDS:
        queries += [variable["query"]["query"] for variable in dashboard["templating"]["list"][1:]]
    used = {name for query in queries for name in metrics_in(query.replace(",", " "))}
    assert used - exported == set()
    assert len(used) > 10


def test_rates_follow_the_scrape_interval() -> None:
    """Panels rate over `$__rate_interval`, never over a window of their own."""
    windows = [
        window
        for panel in panels()
        for target in panel.get("targets", [])
        for window in re.findall(r"\[([^\]]+)\]", target["expr"])
    ]
    assert set(windows) == {"$__rate_interval"}


def test_panels_do_not_overlap() -> None:
    for dashboard in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            taken |= cells


@pytest.mark.parametrize("alert", sorted({alert.name for alert in ALERTS}))
def test_every_alert_has_a_runbook(alert: str) -> None:
    """It says what the alert means, whom it hurts, how to find the cause and what to do."""
    text = (ROOT / "docs" / "runbooks" / f"{alert}.md").read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == [
        alert,
        "Meaning",
        "Impact",
        "Diagnosis",
        "Mitigation",
    ]


def test_every_runbook_has_an_alert() -> None:
    runbooks = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert runbooks == {alert.name for alert in ALERTS}


def test_grafana_and_prometheus_have_the_same_alerts() -> None:
    """Same conditions, same texts, same waits, whichever of the two evaluates them."""
    prometheus = yaml.safe_load(GENERATED["prometheus/rules.yaml"])["groups"][1]["rules"]
    grafana = yaml.safe_load(GENERATED["provisioning/alerting/rules.yaml"])["groups"][0]["rules"]
    assert [rule["data"][0]["model"]["expr"] for rule in grafana] == [
        f"({rule['expr']}) * 0 + 1" for rule in prometheus
    ]
    for key in ("annotations", "labels"):
        assert [rule.get(key) for rule in grafana] == [rule.get(key) for rule in prometheus]
    assert [rule["for"] for rule in grafana] == [rule.get("for", "0s") for rule in prometheus]
    assert len({rule["uid"] for rule in grafana}) == len(grafana)


def test_links_can_be_led_elsewhere() -> None:
    """Another Grafana and other runbooks, in rules of both kinds."""
    moved = files(Links(grafana="https://g.test", runbooks="https://r.test"))
    for path in ("prometheus/rules.yaml", "provisioning/alerting/rules.yaml"):
        assert "https://g.test/d/driftline-drift" in moved[path]
        assert "https://r.test/DriftlineDrift.md" in moved[path]
        assert "example.com" not in moved[path]
