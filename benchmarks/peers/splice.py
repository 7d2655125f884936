"""Python's floor: see `benchmarks.splice`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.peers import Running


class Splice:
    name = "bare splice"
    telemetry = "nothing"
    slow = False

    def missing(self) -> str:
        return ""

    @contextlib.contextmanager
    def start(self, upstream: str, cores: machine.Cores, directory: Path) -> Iterator[Running]:
        port = machine.free_port()
        command = [sys.executable, "-m", "benchmarks.splice", "--port", str(port), "--upstream", upstream]
        with machine.process(command, cores.proxy, log=directory / "splice.log") as started:
            machine.wait_listening(port, started)
            yield Running(f"127.0.0.1:{port}", {"proxy": started.pid}, {})
