"""The processes of a run: OTLP receiver, upstream, sidecar, clients; and the hand that kills them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine, wire
from benchmarks.peers.driftline import wait_ready
from chaos.ledger import Done, Step
from chaos.schedule import OBSERVER, RELAYS, SUPERVISOR, UPSTREAM

_STOP_SECONDS = 5.0
WATCHDOG = 6.0
"""Seconds: longer than any pause of the schedule."""
_SIGNALS = {
    "kill": signal.SIGKILL,
    "hang": signal.SIGSTOP,
    "pause": signal.SIGSTOP,
    "resume": signal.SIGCONT,
    "dismiss": signal.SIGTERM,
    "reload": signal.SIGHUP,
    "roll": signal.SIGUSR2,
}


class Upstream:
    """The server behind the sidecar, started again and again on one port."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "upstream.log"
        # Bound and never listening: while the upstream is down the port refuses, and nobody else can have it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self._port = int(self._reserved.getsockname()[1])
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.incarnation = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """0 while it is down."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Returns when it listens."""
        self.incarnation += 1
        command = [sys.executable, "-m", "chaos.upstream", "--port", str(self._port)]
        command += ["--incarnation", str(self.incarnation)]
        self._process = self._running.enter_context(machine.process(command, (), log=self._log))
        machine.wait_listening(self._port, self._process)

    def killed(self) -> None:
        """Collect it, so that its sockets are gone when this returns."""
        assert self._process is not None
        self._process.wait()

    def close(self) -> None:
        if pid := self.pid:
            os.kill(pid, signal.SIGCONT)
        self._running.close()
        self._reserved.close()


class Sidecar:
    """`driftline serve` with everything on."""

    def __init__(
        self, upstream: str, receiver: str, directory: Path, log: Path, running: contextlib.ExitStack
    ) -> None:
        self.log = log
        file = directory / "driftline.yaml"
        configuration = {
            "listen": "127.0.0.1:0",
            "admin": {"listen": "127.0.0.1:0"},
            "relays": len(RELAYS),
            "state_dir": str(directory / "state"),
            "pools": [{"endpoints": [{"url": upstream}]}],
            "prices": [{"model": wire.MODEL, "input": 1, "output": 2}],
            "capture": {"content": True},
            "timeouts": {"watchdog": WATCHDOG},
        }
        file.write_text(json.dumps(configuration), encoding="utf-8")
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver, "DRIFTLINE_LOG": "json"}
        command = [sys.executable, "-m", "driftline", "serve", "--config", str(file)]
        self._supervisor = running.enter_context(
            machine.process(command, (), log=self.log, environment=environment)
        )
        said = self._wait_listening()
        self.data, self.admin = str(said["data"]), f"http://{said['admin']}"
        self._data_port = int(self.data.rpartition(":")[2])
        wait_ready(self.admin)
        relays = sorted({_place(process) for process in self._children()} - {"", OBSERVER})
        self._places = {OBSERVER: OBSERVER, **dict(zip(RELAYS, relays, strict=True))}

    def _wait_listening(self) -> dict[str, Any]:
        deadline = time.monotonic() + machine.DEADLINE
        while time.monotonic() < deadline and self._supervisor.poll() is None:
            for line in self.log.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    if (said := json.loads(line))["event"] == "listening":
                        return dict(said)
            time.sleep(0.05)
        raise RuntimeError(f"the sidecar did not begin to listen; its log is {self.log}")

    def pid(self, role: str) -> int:
        """Of the youngest in that place, which may be starting; 0 while there is none.

        The system is asked, not `/healthz`: the admin port belongs to the observer, which may be what is down.
        """
        place = self._places[role]
        living = [process for process in self._children() if _place(process) == place]
        return max(living, key=psutil.Process.create_time).pid if living else 0

    def _children(self) -> list[psutil.Process]:
        if (status := self._supervisor.poll()) is not None:
            raise RuntimeError(f"the sidecar ended with {status}; its log is {self.log}")
        return psutil.Process(self.supervisor).children()

    def ports(self, pid: int) -> frozenset[int]:
        """Of the clients whose connections relay `pid` holds."""
        connections = psutil.Process(pid).net_connections(kind="tcp")
        return frozenset(
            connection.raddr.port
            for connection in connections
            if connection.raddr and connection.laddr.port == self._data_port
        )

    @property
    def supervisor(self) -> int:
        return self._supervisor.pid


class Hand:
    """Does the steps of a schedule."""

    def __init__(self, upstream: Upstream, sidecar: Sidecar) -> None:
        self._upstream = upstream
        self._sidecar = sidecar
        self._paused: dict[str, psutil.Process] = {}

    def do(self, step: Step) -> Done:
        if step.do == "start":
            return self._start(step)
        if step.do == "resume":
            return self._resume(step)
        pid = self._pid(step.to)
        if not pid:
            return Done(step, time.monotonic_ns(), skipped="it was down")
        if step.do in ("kill", "hang"):
            return self._kill(step, pid)
        if step.do == "pause":
            self._paused[step.to] = psutil.Process(pid)
        at = time.monotonic_ns()
        os.kill(pid, _SIGNALS[step.do])
        return Done(step, at, pid)

    def _pid(self, to: str) -> int:
        if to == UPSTREAM:
            return self._upstream.pid
        return self._sidecar.supervisor if to == SUPERVISOR else self._sidecar.pid(to)

    def _kill(self, step: Step, pid: int) -> Done:
        ports: frozenset[int] = frozenset()
        if step.to in RELAYS:
            # Stopped first: which connections die with it has to be known exactly.
            os.kill(pid, signal.SIGSTOP)
            _wait_stopped(pid)
            ports = self._sidecar.ports(pid)
        born_at = time.monotonic_ns() - int((time.time() - psutil.Process(pid).create_time()) * 1e9)
        at = time.monotonic_ns()
        os.kill(pid, _SIGNALS[step.do])
        if step.to == UPSTREAM:
            self._upstream.killed()
            return Done(step, at, pid, born_at=born_at, incarnation=self._upstream.incarnation)
        return Done(step, at, pid, born_at=born_at, ports=ports)

    def _start(self, step: Step) -> Done:
        if self._upstream.pid:
            return Done(step, time.monotonic_ns(), skipped="it was up")
        self._upstream.start()
        now = time.monotonic_ns()
        return Done(step, now, self._upstream.pid, incarnation=self._upstream.incarnation)

    def _resume(self, step: Step) -> Done:
        process = self._paused.pop(step.to, None)
        if process is None or not process.is_running():
            return Done(step, time.monotonic_ns(), skipped="it was killed meanwhile")
        process.resume()
        return Done(step, time.monotonic_ns(), process.pid)

    def release(self) -> None:
        """Let everything run again."""
        for process in self._paused.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        if not self._upstream.pid:
            self._upstream.start()


def _place(process: psutil.Process) -> str:
    """What a child of the supervisor is there for: `observer`, or a relay and its listening socket."""
    with contextlib.suppress(psutil.Error):  # it has just ended
        command = process.cmdline()
        if "driftline.observer" in command:
            return OBSERVER
        if "--listener" in command:
            return f"relay at {command[command.index('--listener') + 1]}"
    return ""


def _wait_stopped(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stop")
        time.sleep(0.0005)
