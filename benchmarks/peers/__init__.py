"""The proxies that are measured beside each other, one file each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.machine import Cores


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


class Peer(Protocol):
    name: str
    telemetry: str
    """What it records of the traffic, in a word."""

    def missing(self) -> str:
        """What has to be installed for this peer; empty where nothing."""

    def start(self, upstream: str, cores: Cores, directory: Path) -> AbstractContextManager[Running]:
        """The peer in front of `upstream` (host:port), its files in `directory`, until the block is left."""
