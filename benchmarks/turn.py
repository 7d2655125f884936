"""One turn of one peer: started, warmed up, put under its loads, and its processes measured."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from benchmarks import loads, machine
from benchmarks.judge import RequestResult, StreamResult
from benchmarks.peers import Peer, Running

IDLE_SECONDS = 0.5
SAMPLE_SECONDS = 0.25


class Cost(msgspec.Struct):
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


class Measured(msgspec.Struct):
    """One load, what came of it, and what it cost."""

    load: loads.Load
    result: StreamResult | RequestResult
    cost: Cost
    proxy_cpu: float
    """Seconds, of the processes that touch the traffic."""
    memory: dict[str, int] | None = None
    """Bytes by role with all streams of the load open, the most that was seen."""

    @property
    def chunks(self) -> StreamResult:
        assert isinstance(self.result, StreamResult)
        return self.result

    @property
    def requests(self) -> RequestResult:
        assert isinstance(self.result, RequestResult)
        return self.result

    @property
    def units(self) -> int:
        """Chunks, or requests."""
        return self.result.tokens if isinstance(self.result, StreamResult) else self.result.complete

    def unit_us(self) -> float:
        """CPU of the proxy per chunk or request."""
        return self.proxy_cpu / self.units * 1e6


class Turn(msgspec.Struct):
    peer: str
    telemetry: str
    measured: dict[str, Measured]
    """By name of the load."""
    idle: dict[str, float]
    """CPU seconds per second by role with no traffic, just after some."""
    memory: dict[str, int]
    """Bytes by role after all loads."""
    proxy_roles: list[str]


@contextlib.contextmanager
def mock_upstream(cores: machine.Cores, directory: Path, speed: float = 1.0) -> Iterator[str]:
    """A paced upstream; its host:port."""
    port = machine.free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port), "--speed", str(speed)]
    with machine.process(command, cores.rig, log=directory / "upstream.log") as started:
        machine.wait_listening(port, started)
        yield f"127.0.0.1:{port}"


def take(
    peer: Peer, chosen: Mapping[str, loads.Load], cores: machine.Cores, directory: Path, speed: float = 1.0
) -> Turn:
    """Measure `peer` once. Only it, the upstream and the load generator run meanwhile."""
    with (
        mock_upstream(cores, directory, speed) as upstream,
        peer.start(upstream, cores, directory) as running,
    ):
        meter = Meter(running, cores)
        for kind in {type(load) for load in chosen.values()}:
            run_load(running, cores, loads.WARM_UP[kind])
        meter.settle()
        meter.measure_idle()
        measured = {name: measure(meter, load) for name, load in chosen.items()}
        return Turn(
            peer=peer.name,
            telemetry=peer.telemetry,
            measured=measured,
            idle=meter.idle,
            memory=meter.memory(),
            proxy_roles=list(running.proxy),
        )


def measure(meter: Meter, load: loads.Load) -> Measured:
    """Put the load on the peer of `meter`; once more, not measured, where its memory is asked for meanwhile."""
    with meter.load() as cost:
        printed = run_load(meter.running, meter.cores, load)
    proxy_cpu = sum(cost.cpu[role] for role in meter.running.proxy)
    if isinstance(load, loads.Requests):
        return Measured(load, msgspec.json.decode(printed, type=RequestResult), cost, proxy_cpu)
    memory = memory_under(meter, load) if load.held else None
    return Measured(load, msgspec.json.decode(printed, type=StreamResult), cost, proxy_cpu, memory)


def command_of(running: Running, load: loads.Load) -> list[str]:
    """The load generator's command line."""
    command = [sys.executable, "-m", "benchmarks.load", "--target", running.address]
    command += [f"--field={field}" for field in running.fields]
    command += ["--exact" if running.exact else "--in-substance"]
    command += ["requests" if isinstance(load, loads.Requests) else "streams"]
    return command + [
        argument for name, value in load.arguments.items() for argument in (f"--{name}", str(value))
    ]


def run_load(running: Running, cores: machine.Cores, load: loads.Load) -> bytes:
    """Run the load generator against a peer; the JSON it printed. Raises where it failed as a whole."""
    command = machine.on(cores.rig, command_of(running, load))
    return subprocess.run(command, check=True, cwd=machine.ROOT, stdout=subprocess.PIPE).stdout


def memory_under(meter: Meter, load: loads.Streams) -> dict[str, int]:
    """The most memory each process has while the load is on. Reading it holds processes up, so nothing is timed."""
    command = machine.on(meter.cores.rig, command_of(meter.running, load))
    most: dict[str, int] = {}
    with subprocess.Popen(command, cwd=machine.ROOT, stdout=subprocess.DEVNULL) as started:
        while started.poll() is None:
            most = {role: max(size, most.get(role, 0)) for role, size in meter.memory().items()}
            time.sleep(SAMPLE_SECONDS)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    meter.settle()
    return most


class Meter:
    """Reads CPU time and memory of a peer's processes around a load."""

    def __init__(self, running: Running, cores: machine.Cores) -> None:
        self.running = running
        self.cores = cores
        self._processes = running.proxy | running.beside
        self.idle = dict.fromkeys(self._processes, 0.0)

    def memory(self) -> dict[str, int]:
        return {role: machine.memory_bytes(pid) for role, pid in self._processes.items()}

    def settle(self) -> None:
        """Wait until the processes have caught up with their traffic. Raises `TimeoutError`."""
        deadline = time.monotonic() + machine.DEADLINE
        while time.monotonic() < deadline:
            if sum(self._rates(self.running.quiet_seconds).values()) < 0.05:
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
        return {role: machine.cpu_seconds(pid) for role, pid in self._processes.items()}

    @contextlib.contextmanager
    def load(self) -> Iterator[Cost]:
        """What happens in the block, and the work it leaves behind, filled in when the block is left."""
        cost, facts = Cost({}, 0, 0, 0, 0, {}), self.running.facts()
        before, begin = self._cpu(), time.monotonic()
        proxy_core, rig = machine.CoreTimes.of(self.cores.proxy), machine.CoreTimes.of(self.cores.rig)
        yield cost
        cost.seconds = time.monotonic() - begin
        proxy_core, rig = proxy_core.since(self.cores.proxy), rig.since(self.cores.rig)
        now = self._cpu()
        own = sum(now[role] - before[role] for role in self.running.proxy)
        self.settle()
        passed = time.monotonic() - begin
        cost.cpu = {role: now - before[role] - self.idle[role] * passed for role, now in self._cpu().items()}
        cost.facts = {name: count - facts[name] for name, count in self.running.facts().items()}
        if self.cores.proxy:
            if self.running.alone:
                cost.proxy_core_foreign = max(0.0, proxy_core.busy - own) / cost.seconds
            cost.rig_busy = rig.busy / cost.seconds / len(self.cores.rig)
            cost.stolen = (proxy_core.stolen + rig.stolen) / cost.seconds / (1 + len(self.cores.rig))
