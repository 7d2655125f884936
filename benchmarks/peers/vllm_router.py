"""vllm-router, the Rust router of the vLLM project, in an environment of its own (`make bench-peers`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.peers import CACHE, Running

VERSION = "0.1.17"
ROUTER = CACHE / f"vllm-router-{VERSION}" / "bin" / "vllm-router"


class VllmRouter:
    name = "vllm-router"
    telemetry = "metrics"
    slow = False

    def missing(self) -> str:
        return "" if ROUTER.exists() else f"vllm-router {VERSION}: make bench-peers"

    @contextlib.contextmanager
    def start(self, upstream: str, cores: machine.Cores, directory: Path) -> Iterator[Running]:
        port = machine.free_port()
        command = [
            str(ROUTER),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--worker-urls",
            f"http://{upstream}",
        ]
        command += ["--prometheus-port", str(machine.free_port())]
        # As it comes, but for a log line per request.
        command += ["--log-level", "error"]
        with machine.process(command, cores.proxy, log=directory / "vllm-router.log") as started:
            machine.wait_listening(port, started)
            yield Running(f"127.0.0.1:{port}", {"router": started.pid}, {})
