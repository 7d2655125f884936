"""What the machine says about processes and cores: CPU time, memory, pinning.

Linux tells all of it. Elsewhere CPU time comes in coarser steps, memory is the unique set, nothing is pinned.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

LINUX = sys.platform == "linux"
CAN_PIN = LINUX and len(os.sched_getaffinity(0)) > 1

ROOT = Path(__file__).parent.parent
"""Where `python -m benchmarks…` works."""
DEADLINE = 120.0
"""Seconds a process may take to do what is waited for."""


class Cores(NamedTuple):
    """Which cores do what: the proxy alone on one, everything else on the others. Empty: not pinned."""

    proxy: tuple[int, ...]
    rig: tuple[int, ...]

    @classmethod
    def of_this_machine(cls) -> Cores:
        if not CAN_PIN:
            return cls((), ())
        *rig, proxy = sorted(os.sched_getaffinity(0))
        return cls((proxy,), tuple(rig))


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid`, all its threads, also those that ended; children are not included.

    On Linux from the process's CPU clock, in nanoseconds, where /proc/PID/stat counts ticks of 10 ms.
    """
    if not LINUX:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    # The clock id of another process: clock_getcpuclockid(3); MAKE_PROCESS_CPUCLOCK in Linux's
    # include/linux/posix-timers.h, with CPUCLOCK_SCHED = 2.
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid: int) -> int:
    """Proportional set size (shared pages divided by their users) on Linux, unique set size elsewhere."""
    memory = psutil.Process(pid).memory_full_info()
    return int(memory.pss if LINUX else memory.uss)


def private_bytes(pid: int) -> int:
    """Unique set size: what would be free if `pid` ended, whoever else comes to share its libraries."""
    return int(psutil.Process(pid).memory_full_info().uss)


def pin(pid: int, cores: tuple[int, ...]) -> None:
    """Move a running process, all its threads, to `cores`."""
    for thread in psutil.Process(pid).threads() if cores else ():
        os.sched_setaffinity(thread.id, cores)


class CoreTimes(NamedTuple):
    """Of some cores since start, in seconds."""

    busy: float
    stolen: float
    """Taken by the hypervisor for others."""

    @classmethod
    def of(cls, cores: tuple[int, ...]) -> CoreTimes:
        times = psutil.cpu_times(percpu=True)
        busy = sum(times[core].user + times[core].nice + times[core].system for core in cores)
        busy += sum(times[core].irq + times[core].softirq for core in cores)
        return cls(busy, sum(times[core].steal for core in cores))

    def since(self, cores: tuple[int, ...]) -> CoreTimes:
        """What passed since this was read."""
        now = CoreTimes.of(cores)
        return CoreTimes(now.busy - self.busy, now.stolen - self.stolen)


def on(cores: tuple[int, ...], command: list[str]) -> list[str]:
    """`command`, to be started on `cores`."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command] if cores else command


@contextlib.contextmanager
def process(
    command: list[str],
    cores: tuple[int, ...],
    *,
    log: Path,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on `cores`, its output in `log`, ended by SIGTERM when the block is left."""
    with log.open("a") as output:
        started = subprocess.Popen(
            on(cores, command),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def free_port() -> int:
    """A port of the loopback interface nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_listening(port: int, started: subprocess.Popen[bytes]) -> None:
    """Until something accepts connections on `port`. Raises `RuntimeError` where `started` ends first."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if started.poll() is not None:
            raise RuntimeError(f"{started.args!r} ended with {started.returncode}; see its log")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{started.args!r} did not listen on port {port} within {DEADLINE:.0f} s; see its log")
