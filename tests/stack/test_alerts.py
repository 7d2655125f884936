"""From prompts to a page: the sidecar measures, Prometheus fires, Alertmanager tells a webhook."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any

from tests.stack.components import dashboards
from tests.stack.components.collector import Collector
from tests.stack.components.http import get_json, post
from tests.stack.components.process import wait_until
from tests.stack.components.prometheus import Prometheus
from tests.stack.components.receiver import Receiver
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.vllm import Vllm

# Slots of requests, so that the test is as fast as the model answers and no clock decides what it sees.
DRIFT = {
    "slot": "50 requests",
    "scales": ["50 requests"],
    "learn": "500 requests",
    "minimum": 50,
    "clean_windows": 2,
    "features": ["input_tokens"],
}
LEARNING, WINDOW = 500, 50


class Application:
    """Prompts of about thirty words, or `times` as many; the lengths come from a seed."""

    def __init__(self, sidecar: Sidecar, model: str) -> None:
        self._sidecar = sidecar
        self._model = model
        self._random = random.Random(0)

    def sends(self, count: int, *, times: float = 1.0) -> None:
        lengths = [round(30 * times * self._random.lognormvariate(0, 0.3)) for _ in range(count)]
        with ThreadPoolExecutor(8) as workers:
            statuses = set(workers.map(self._ask, lengths))
        assert statuses == {200}

    def _ask(self, words: int) -> int:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": "word " * words}],
            "max_tokens": 1,
            "stream": True,
        }
        status, _ = post(f"{self._sidecar.url}/v1/chat/completions", json.dumps(body).encode())
        return status


def told(webhook: Receiver, status: str) -> list[dict[str, Any]]:
    """Alerts of that status that the webhook has received, with the path they came to."""
    return [
        {"path": posted.path, **alert}
        for posted in webhook.received
        for alert in json.loads(posted.body)["alerts"]
        if alert["status"] == status
    ]


def test_longer_prompts_fire_the_alert_and_usual_ones_resolve_it(
    vllm: Vllm,
    sidecar: Callable[..., Sidecar],
    prometheus: Callable[..., AbstractContextManager[Prometheus]],
    webhook: Receiver,
) -> None:
    running = sidecar(vllm.url, configuration={"drift": DRIFT})
    application = Application(running, vllm.model)
    instance = running.admin.removeprefix("http://")

    with prometheus([instance]) as server:
        application.sends(LEARNING + 3 * WINDOW)
        [state] = wait_until(lambda: server.query("driftline_drift_state == 1"), what="a stable feature")
        assert state["metric"]["feature"] == "input_tokens"
        assert server.firing() == []

        application.sends(4 * WINDOW, times=3)
        [fired] = wait_until(lambda: told(webhook, "firing"), deadline=60, what="the alert at the webhook")
        assert fired["labels"]["alertname"] == "DriftlineDrift"
        assert fired["labels"]["feature"] == "input_tokens"
        assert fired["labels"]["model"] == vllm.model
        # A reference of five hundred requests cannot be calibrated, and what is not calibrated does not page.
        assert (fired["labels"]["severity"], fired["path"]) == ("ticket", "/tickets")
        annotations = fired["annotations"]
        assert annotations["summary"] == "input_tokens of tiny has drifted"
        assert annotations["runbook_url"].endswith("/DriftlineDrift.md")
        assert annotations["dashboard_url"].endswith("?var-model=tiny&var-variant=&var-feature=input_tokens")

        # The links lead to what they promise.
        incidents = f"{running.admin}/api/v1/incidents"
        assert incidents in annotations["description"]
        [incident] = get_json(incidents)["incidents"]
        assert (incident["feature"], incident["closed_at"]) == ("input_tokens", None)
        traces = get_json(annotations["traces_url"])["traces"]
        assert {trace["model"] for trace in traces} == {vllm.model}

        application.sends(6 * WINDOW)
        [resolved] = wait_until(
            lambda: told(webhook, "resolved"), deadline=60, what="the resolution at the webhook"
        )
        assert resolved["fingerprint"] == fired["fingerprint"]
        assert wait_until(lambda: server.firing() == [], what="no alert in Prometheus")


def test_every_panel_of_the_dashboards_shows_something(
    vllm: Vllm,
    collector: Collector,
    sidecar: Callable[..., Sidecar],
    prometheus: Callable[..., AbstractContextManager[Prometheus]],
) -> None:
    """With some traffic seen, Prometheus answers every query of every panel with at least one sample."""
    running = sidecar(
        vllm.url,
        configuration={"drift": DRIFT},
        environment={
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    [scale] = DRIFT["scales"]
    asked = list(dashboards.queries(model=vllm.model, feature="input_tokens", scale=scale))
    with prometheus([running.admin.removeprefix("http://")]) as server:
        Application(running, vllm.model).sends(LEARNING + 3 * WINDOW)

        def empty() -> list[tuple[str, str]]:
            return [(title, query) for title, query in asked if not server.query(query)]

        with suppress(TimeoutError):
            wait_until(lambda: not empty(), deadline=60)
        assert empty() == []
