"""The sidecar itself: with everything on, and with nothing exported; one relay, and several."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import machine
from benchmarks.peers import Running

PINNED = 2
"""Relays that get cores of their own, at most."""
EXPORT_SECONDS = 1.2
"""Longer than spans wait for others to be sent with (`OTEL_BSP_SCHEDULE_DELAY`, 1 s)."""


class Driftline:
    """Observer, supervisor and OTLP receiver are not on the proxy's core.

    One relay has that core; two have a core each, the second one with the rig; more are wherever the system puts
    them, and everything else with them.
    """

    slow = False

    def __init__(self, name: str, telemetry: str, *, exporting: bool, relays: int = 1) -> None:
        self.name = name
        self.telemetry = telemetry
        self._exporting = exporting
        self._relays = relays

    def missing(self) -> str:
        return ""

    @contextlib.contextmanager
    def start(self, upstream: str, cores: machine.Cores, directory: Path) -> Iterator[Running]:
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context(otlp_sink(cores, directory)) if self._exporting else None
            port, admin = machine.free_port(), machine.free_port()
            configuration = {
                "listen": f"127.0.0.1:{port}",
                "admin": {"listen": f"127.0.0.1:{admin}"},
                "relays": self._relays,
                "state_dir": str(directory / "state"),
                "pools": [{"endpoints": [{"url": f"http://{upstream}"}]}],
                "prices": [{"model": "*", "input": 1, "output": 2}],
                "capture": {"content": self._exporting},
            }
            file = directory / "driftline.yaml"
            file.write_text(json.dumps(configuration), encoding="utf-8")
            command = [sys.executable, "-m", "driftline", "serve", "--config", str(file)]
            started = stack.enter_context(
                machine.process(
                    command,
                    cores.rig if self._relays <= PINNED else (),
                    log=directory / "driftline.log",
                    environment={"OTEL_EXPORTER_OTLP_ENDPOINT": sink} if sink else {},
                )
            )
            machine.wait_listening(admin, started)
            processes = wait_ready(f"http://127.0.0.1:{admin}")
            relays = {role: pid for role, pid in processes.items() if role.startswith("relay")}
            if self._relays <= PINNED:
                for pid, core in zip(relays.values(), (cores.proxy, cores.rig[:1]), strict=False):
                    machine.pin(pid, core)
            yield Running(
                f"127.0.0.1:{port}",
                relays,
                {role: pid for role, pid in processes.items() if role not in relays},
                lambda: counters(f"http://127.0.0.1:{admin}", sink),
                quiet_seconds=EXPORT_SECONDS if sink else 0.2,
                alone=self._relays == 1,
                admin=f"http://127.0.0.1:{admin}",
            )


@contextlib.contextmanager
def otlp_sink(cores: machine.Cores, directory: Path) -> Iterator[str]:
    """An OTLP receiver; its base URL."""
    port = machine.free_port()
    command = [sys.executable, "-m", "benchmarks.sink", "--port", str(port)]
    with machine.process(command, cores.rig, log=directory / "sink.log") as started:
        machine.wait_listening(port, started)
        yield f"http://127.0.0.1:{port}"


def wait_ready(admin: str) -> dict[str, int]:
    """Until the upstream has been seen; process ids by role, relays numbered where there are several.

    Raises `TimeoutError`.
    """
    deadline = time.monotonic() + machine.DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # not ready is a 503
            fetch(f"{admin}/readyz")
            return by_role(fetch(f"{admin}/healthz")["processes"])
        time.sleep(0.05)
    raise TimeoutError(f"{admin}/readyz did not become ready within {machine.DEADLINE:.0f} s")


def by_role(processes: list[dict[str, Any]]) -> dict[str, int]:
    """Process ids by role; the second and further ones of a role with their number."""
    ids: dict[str, int] = {}
    for process in processes:
        role = process["role"]
        number = sum(known.split()[0] == role for known in ids)
        ids[f"{role} {number + 1}" if number else role] = process["pid"]
    return ids


def counters(admin: str, sink: str | None) -> dict[str, float]:
    """What became of the requests: every one is observed, or counted as not; the same for its span."""
    books = fetch(f"{admin}/healthz")["requests"]
    counted = {"requests": books["started"], "observed": books["observed"]}
    counted["not observed"] = sum(books["dropped"].values())
    if sink:
        counted["spans received"] = fetch(f"{sink}/spans")
        counted["spans dropped"] = spans_dropped(fetch(f"{admin}/metrics").decode())
    return counted


def spans_dropped(exposition: str) -> float:
    """Spans that found the exporter's queue full, in Prometheus's text format."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == "driftline_telemetry_dropped_total" and sample.labels["signal"] == "traces"
    )


def fetch(url: str) -> Any:
    """What `url` answers, as JSON where it is JSON. Raises `OSError`, also for an error status."""
    with urllib.request.urlopen(url, timeout=10) as response:
        body = response.read()
    return json.loads(body) if response.headers.get_content_type() == "application/json" else body
