"""No proxy: what load generator, upstream and kernel take by themselves. Latencies are given above it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import Cores
from benchmarks.peers import Running


class Direct:
    name = "direct"
    telemetry = "nothing"
    slow = False

    def missing(self) -> str:
        return ""

    @contextlib.contextmanager
    def start(self, upstream: str, cores: Cores, directory: Path) -> Iterator[Running]:
        yield Running(upstream, {}, {})
