"""The proxies that are measured beside each other, one file each."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.machine import Cores

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "driftline"
"""Where `make bench-peers` puts them."""


class Running(NamedTuple):
    """A peer that accepts connections."""

    address: str
    """host:port"""
    proxy: dict[str, int]
    """Processes that touch the traffic, by role, on the proxy's core: theirs is the CPU time per chunk."""
    beside: dict[str, int]
    """Its other processes, on the other cores."""
    facts: Callable[[], dict[str, float]] = dict
    """What it says it did, by its own counters."""
    quiet_seconds: float = 0.2
    """It has caught up with its traffic when it has been all but idle for this long."""
    alone: bool = True
    """Whether the processes that touch the traffic are the only ones on the proxy's core, and nowhere else."""
    exact: bool = True
    """Whether it passes bytes on. Otherwise what it writes anew is judged by what it says."""
    admin: str = ""
    """Base URL of its own figures, where it has some."""
    fields: tuple[str, ...] = ()
    """Header lines that it wants with each request."""


class Peer(Protocol):
    name: str
    telemetry: str
    """What it records of the traffic, in a word."""
    slow: bool
    """Whether it takes so long that it gets a smaller load."""

    def missing(self) -> str:
        """What has to be installed for this peer; empty where nothing."""

    def start(self, upstream: str, cores: Cores, directory: Path) -> AbstractContextManager[Running]:
        """The peer in front of `upstream` (host:port), its files in `directory`, until the block is left."""
