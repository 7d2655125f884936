"""The sidecar itself, one relay: with everything on, and with nothing exported."""

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

from benchmarks import machine, wire
from benchmarks.peers import Running

EXPORT_SECONDS = 1.2
"""Longer than spans wait for others to be sent with (`OTEL_BSP_SCHEDULE_DELAY`, 1 s)."""


class Driftline:
    """The relay has the proxy's core; observer, supervisor and OTLP receiver are on the others."""

    def __init__(self, name: str, telemetry: str, *, exporting: bool) -> None:
        self.name = name
        self.telemetry = telemetry
        self._exporting = exporting

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
                "state_dir": str(directory / "state"),
                "pools": [{"endpoints": [{"url": f"http://{upstream}"}]}],
                "prices": [{"model": wire.MODEL, "input": 1, "output": 2}],
                "capture": {"content": self._exporting},
            }
            file = directory / "driftline.yaml"
            file.write_text(json.dumps(configuration), encoding="utf-8")
            command = [sys.executable, "-m", "driftline", "serve", "--config", str(file)]
            started = stack.enter_context(
                machine.process(
                    command,
                    cores.rig,
                    log=directory / "driftline.log",
                    environment={"OTEL_EXPORTER_OTLP_ENDPOINT": sink} if sink else {},
                )
            )
            machine.wait_listening(admin, started)
            processes = wait_ready(f"http://127.0.0.1:{admin}")
            machine.pin(processes["relay"], cores.proxy)
            yield Running(
                f"127.0.0.1:{port}",
                {"relay": processes.pop("relay")},
                processes,
                lambda: counters(f"http://127.0.0.1:{admin}", sink),
                EXPORT_SECONDS if sink else 0.2,
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
    """Until the upstream has been seen; process ids by role. Raises `TimeoutError`."""
    deadline = time.monotonic() + machine.DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # not ready is a 503
            fetch(f"{admin}/readyz")
            return {process["role"]: process["pid"] for process in fetch(f"{admin}/healthz")["processes"]}
        time.sleep(0.05)
    raise TimeoutError(f"{admin}/readyz did not become ready within {machine.DEADLINE:.0f} s")


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


def fetch(url: str, timeout: float = 10) -> Any:
    """What `url` answers, as JSON where it is JSON. Raises `OSError`, also for an error status."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        body = response.read()
    return json.loads(body) if response.headers.get_content_type() == "application/json" else body
