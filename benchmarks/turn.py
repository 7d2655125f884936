"""One turn of one peer: started, warmed up, put under both loads, and its processes measured."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks import machine
from benchmarks.load import RequestResult, StreamResult
from benchmarks.peers import Peer, Running

IDLE_SECONDS = 0.5


class Options(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 3
    streams: int = 192
    """At once."""
    requests: int = 3
    """By each stream's client."""
    tokens: int = 128
    interval_ms: float = 10.0
    phase: Literal["spread", "burst"] = "spread"
    connections: int = 64
    """At once, in the load without streams."""
    seconds: float = 2.5
    """Of the load without streams."""


class Load(msgspec.Struct):
    """What a load cost."""

    cpu: dict[str, float]
    """Seconds of CPU by role of process, less what the process takes when idle."""
    seconds: float
    proxy_core_foreign: float
    """Share of the proxy's core that others took, 0 to 1."""
    rig_busy: float
    """Share of the other cores that was in use, 0 to 1."""
    stolen: float
    """Share of all cores that the hypervisor gave to others."""
    facts: dict[str, float]
    """What the peer itself says it did meanwhile."""


class Turn(msgspec.Struct):
    peer: str
    telemetry: str
    streams: StreamResult
    stream_load: Load
    requests: RequestResult
    request_load: Load
    idle: dict[str, float]
    """CPU seconds per second by role with no traffic, just after some."""
    memory: dict[str, int]
    """Bytes by role after both loads."""
    proxy_roles: list[str]

    def proxy_cpu(self, load: Load) -> float:
        return sum(load.cpu[role] for role in self.proxy_roles)


@contextlib.contextmanager
def mock_upstream(options: Options, cores: machine.Cores, directory: Path) -> Iterator[str]:
    """A paced upstream; its host:port."""
    port = machine.free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port)]
    command += ["--interval-ms", str(options.interval_ms), "--phase", options.phase]
    with machine.process(command, cores.rig, log=directory / "upstream.log") as started:
        machine.wait_listening(port, started)
        yield f"127.0.0.1:{port}"


def take(peer: Peer, options: Options, cores: machine.Cores, directory: Path) -> Turn:
    """Measure `peer` once. Only it, the upstream and the load generator run meanwhile."""
    with (
        mock_upstream(options, cores, directory) as upstream,
        peer.start(upstream, cores, directory) as running,
    ):
        meter = Meter(running, cores)
        run_load(running, cores, "streams", streams=options.streams, requests=1, tokens=8)
        meter.settle()
        meter.measure_idle()
        with meter.load() as stream_load:
            streams = run_load(
                running,
                cores,
                "streams",
                streams=options.streams,
                requests=options.requests,
                tokens=options.tokens,
                ramp=options.tokens * options.interval_ms / 1000,
            )
        with meter.load() as request_load:
            requests = run_load(
                running, cores, "requests", connections=options.connections, seconds=options.seconds
            )
        return Turn(
            peer=peer.name,
            telemetry=peer.telemetry,
            streams=msgspec.json.decode(streams, type=StreamResult),
            stream_load=stream_load,
            requests=msgspec.json.decode(requests, type=RequestResult),
            request_load=request_load,
            idle=meter.idle,
            memory={role: machine.memory_bytes(pid) for role, pid in meter.processes.items()},
            proxy_roles=list(running.proxy),
        )


def run_load(running: Running, cores: machine.Cores, mode: str, **arguments: float) -> bytes:
    """Run the load generator against a peer; the JSON it printed. Raises where it failed as a whole."""
    command = [sys.executable, "-m", "benchmarks.load", "--target", running.address, mode]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    return subprocess.run(
        machine.on(cores.rig, command), check=True, cwd=machine.ROOT, stdout=subprocess.PIPE
    ).stdout


class Meter:
    """Reads CPU time of a peer's processes around a load."""

    def __init__(self, running: Running, cores: machine.Cores) -> None:
        self.processes = running.proxy | running.beside
        self.idle = dict.fromkeys(self.processes, 0.0)
        self._proxy_roles = list(running.proxy)
        self._cores = cores
        self._facts = running.facts
        self._quiet_seconds = running.quiet_seconds

    def settle(self) -> None:
        """Wait until the processes have caught up with their traffic. Raises `TimeoutError`."""
        deadline = time.monotonic() + machine.DEADLINE
        while time.monotonic() < deadline:
            if sum(self._rates(self._quiet_seconds).values()) < 0.05:
                return
        raise TimeoutError(f"{machine.DEADLINE:.0f} s after the load still in use: {self._rates(0.2)} cores")

    def measure_idle(self) -> None:
        self.idle = self._rates(IDLE_SECONDS)

    def _rates(self, seconds: float) -> dict[str, float]:
        before, begin = self._cpu(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begin
        return {role: (now - before[role]) / passed for role, now in self._cpu().items()}

    def _cpu(self) -> dict[str, float]:
        return {role: machine.cpu_seconds(pid) for role, pid in self.processes.items()}

    @contextlib.contextmanager
    def load(self) -> Iterator[Load]:
        """What happens in the block, and the work it leaves behind, filled in when the block is left."""
        load, facts = Load({}, 0, 0, 0, 0, {}), self._facts()
        before, begin = self._cpu(), time.monotonic()
        proxy_core, rig = machine.CoreTimes.of(self._cores.proxy), machine.CoreTimes.of(self._cores.rig)
        yield load
        load.seconds = time.monotonic() - begin
        proxy_core, rig = proxy_core.since(self._cores.proxy), rig.since(self._cores.rig)
        own = sum(machine.cpu_seconds(self.processes[role]) - before[role] for role in self._proxy_roles)
        self.settle()
        passed = time.monotonic() - begin
        load.cpu = {role: now - before[role] - self.idle[role] * passed for role, now in self._cpu().items()}
        load.facts = {name: count - facts[name] for name, count in self._facts().items()}
        if self._cores.proxy:
            load.proxy_core_foreign = max(0.0, proxy_core.busy - own) / load.seconds
            load.rig_busy = rig.busy / load.seconds / len(self._cores.rig)
            load.stolen = (proxy_core.stolen + rig.stolen) / load.seconds / (1 + len(self._cores.rig))
