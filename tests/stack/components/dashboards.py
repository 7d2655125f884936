"""The queries of the shipped dashboards, as Grafana would send them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.stack.components.prometheus import GRAFANA


def queries(**variables: str) -> Iterator[tuple[str, str]]:
    """Title and query of every target of every panel, with `variables` put in."""
    values = {"__rate_interval": "1m", "instance": ".*", "variant": ".*", **variables}
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                for name, value in values.items():
                    query = query.replace(f"${name}", value)
                yield panel["title"], query
