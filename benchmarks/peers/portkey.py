"""Portkey's gateway, on Node (`make bench-peers`)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.peers import CACHE, Running

VERSION = "1.15.2"
GATEWAY = CACHE / f"portkey-{VERSION}/node_modules/@portkey-ai/gateway/build/start-server.js"
NODE = shutil.which("node")


class Portkey:
    name = "Portkey"
    telemetry = "nothing"
    slow = True

    def missing(self) -> str:
        return "" if NODE and GATEWAY.exists() else f"node, and Portkey {VERSION}: make bench-peers"

    @contextlib.contextmanager
    def start(self, upstream: str, cores: machine.Cores, directory: Path) -> Iterator[Running]:
        assert NODE is not None
        port = machine.free_port()
        command = [NODE, str(GATEWAY), f"--port={port}", "--headless"]
        with machine.process(
            command, cores.proxy, log=directory / "portkey.log", environment={"NODE_ENV": "production"}
        ) as started:
            machine.wait_listening(port, started)
            yield Running(
                f"127.0.0.1:{port}",
                {"proxy": started.pid},
                {},
                quiet_seconds=0.5,
                exact=False,
                fields=(
                    "x-portkey-provider: openai",
                    f"x-portkey-custom-host: http://{upstream}/v1",
                    "Authorization: Bearer none",
                ),
            )
