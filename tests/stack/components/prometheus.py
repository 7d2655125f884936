"""Real Prometheus and Alertmanager, with the rules and the routing that are shipped."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.stack.components import required
from tests.stack.components.http import answers, get_json
from tests.stack.components.process import Process, free_ports

GRAFANA = Path(__file__).parents[3] / "grafana"
RULES = GRAFANA / "prometheus" / "rules.yaml"
ROUTING = GRAFANA / "alertmanager" / "alertmanager.yml"


@dataclass(frozen=True)
class Prometheus:
    url: str
    process: Process

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; `AssertionError` where Prometheus does not take it."""
        answer = get_json(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def firing(self) -> list[dict[str, Any]]:
        alerts = get_json(f"{self.url}/api/v1/alerts")["data"]["alerts"]
        return [alert for alert in alerts if alert["state"] == "firing"]


@contextmanager
def prometheus(
    targets: Sequence[str],
    *,
    directory: Path,
    rules: Sequence[Path] = (RULES,),
    alertmanager: str | None = None,
) -> Iterator[Prometheus]:
    """Scrapes `targets` (`host:port`) under the job `driftline` and evaluates `rules`, each second."""
    [port] = free_ports(1)
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "driftline", "static_configs": [{"targets": list(targets)}]}],
    }
    if alertmanager:
        configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    # JSON is YAML.
    (directory / "prometheus.yml").write_text(json.dumps(configuration))
    command = [
        required.command("prometheus"),
        "--config.file=prometheus.yml",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Process("prometheus", command, directory=directory) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_until(lambda: answers(f"{url}/-/ready"), deadline=60)
        yield Prometheus(url, process)


@contextmanager
def alertmanager(webhook: str, *, directory: Path) -> Iterator[str]:
    """Alertmanager with the shipped routing, all its receivers led to `webhook`; yields its `host:port`.

    Only the waits are shortened: minutes before a group is sent again become a second.
    """
    [port] = free_ports(1)
    configuration = yaml.safe_load(ROUTING.read_text())
    for receiver in configuration["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{webhook}/{receiver['name']}", "send_resolved": True}]
    for route in (configuration["route"], *configuration["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    (directory / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    command = [
        required.command("alertmanager"),
        "--config.file=alertmanager.yml",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # one instance: no gossip port
    ]
    with Process("alertmanager", command, directory=directory) as process:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), deadline=60)
        yield f"127.0.0.1:{port}"
