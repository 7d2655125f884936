"""A real component as a child process: on free ports, watched until it is ready, ended by its handle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL."""


class Process:
    """A child process in a group of its own, so that its children end with it. Its output goes to `log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                cwd=directory,
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait_until(self, condition: Callable[[], T], *, deadline: float, what: str = "ready") -> T:
        """The first true answer of `condition`; fails with the log when the process ends or time is up."""

        def alive_and_true() -> T | None:
            if not self.running:
                raise AssertionError(
                    f"{self.name} ended with {self._child.returncode} before it was {what}:\n{self.tail()}"
                )
            return condition()

        try:
            return wait_until(alive_and_true, deadline=deadline, what=f"{self.name} {what}")
        except TimeoutError as error:
            raise AssertionError(f"{error}:\n{self.tail()}") from None

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """End it politely, and then not; its exit status."""
        if self.running:
            self._child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(GRACE)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to the whole group; its exit status."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        return self._child.wait()


def wait_until(condition: Callable[[], T], *, deadline: float = 30.0, what: str = "condition") -> T:
    """The first true answer of `condition`, asked again until `deadline` seconds have passed."""
    end = time.monotonic() + deadline
    while True:
        try:
            answer = condition()
        except OSError:  # not listening yet, no file yet
            answer = None
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline:g} s")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports
