"""Processes that are kept running: one in each place, replaced when it ends, and whenever it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from driftline.control import LEAVING, REPLACED, UP, Control
from driftline.relay.counters import Row

_log = logging.getLogger(__name__)
_SETTLED_SECONDS = 10.0
"""What ran this long and ends has not failed to start."""
_PROMPT = 3
"""Failures in a row after which the next start waits."""
_LONGEST_PAUSE = 5.0
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(1024 * 1024)}
"""glibc raises this threshold to up to 64 MiB by itself, and keeps as much of what a burst has taken (mallopt(3))."""
_START_SECONDS = 60.0
"""For a process to come up, at the least: a machine that swaps loads libraries slowly."""


class Incarnation:
    """One process, from its start to its end."""

    def __init__(self, arguments: list[str], row: Row, *, sockets: list[int]) -> None:
        self.row = row
        """Where its heart beats, and where a relay counts."""
        self.since = time.time()
        self.leaving = False
        """It has been told to stop."""
        self._arguments = arguments
        self._inherits = sockets
        self._began = time.monotonic()
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._up = asyncio.Event()
        """It works, or has ended."""
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        """An empty one: no more will come."""
        self._listening: asyncio.Task[None] | None = None
        self._gone = False
        self._beat = row["beat"]
        self._missed = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def ran(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    async def start(self, settings: Any, leaves: Callable[[], None]) -> None:
        """Start the program and tell it its settings, the first message on its line. `leaves` is called when somebody
        else has told it to stop. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                "--control",
                str(theirs.fileno()),
                pass_fds=[*self._inherits, theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=_ALLOCATOR | os.environ,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = await Control.over(ours)
        self._control.say(settings)
        self._listening = asyncio.create_task(self._listen(self._control, leaves))

    async def _listen(self, control: Control, leaves: Callable[[], None]) -> None:
        with contextlib.suppress(EOFError):
            while True:
                word = await control.receive(str)
                if word == UP:
                    self._up.set()
                elif word == LEAVING:
                    leaves()
                else:
                    self._answers.put_nowait(word)
        self._gone = True
        self._up.set()
        self._answers.put_nowait("")

    async def up(self) -> None:
        """Wait until it says that it works. Raises `EOFError` when it ends instead."""
        await self._up.wait()
        if self._gone:
            raise EOFError("it ended while it started")

    def tell(self, message: Any) -> None:
        if self._control is not None:
            self._control.say(message)

    async def ask(self, message: Any) -> str:
        """Its answer to `message`. Raises `EOFError` when it ends instead."""
        self.tell(message)
        if answer := await self._answers.get():
            return answer
        self._answers.put_nowait("")
        raise EOFError("it ended")

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        code = await self._process.wait()
        if self._control is not None:
            self._control.close()
        return code

    async def stop(self, grace: float) -> bool:
        """Tell it to stop, kill it after `grace` seconds; whether it stopped by itself."""
        self.leaving = True
        if self._process is None or self._control is None:
            return True
        self._control.end()
        try:
            async with asyncio.timeout(grace):
                await self.ended()
        except TimeoutError:
            self.kill()
            await self.ended()
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def hangs(self, patience: float) -> bool:
        """Whether it has not moved for `patience` seconds. To be asked once a second: what counts are the caller's
        own turns, so that a machine that stood still for an hour accuses nobody."""
        beat = self.row["beat"]
        if beat != self._beat:
            self._beat, self._missed = beat, 0
        else:
            self._missed += 1
        return self._missed >= (patience if self._up.is_set() else max(patience, _START_SECONDS))


class Process:
    """A place that one process fills. When that ends by itself, another is started."""

    def __init__(
        self,
        role: str,
        make: Callable[[], Incarnation],
        settings: Callable[[], Any],
        *,
        overlaps: bool,
        grace: Callable[[], float],
        changed: Callable[[], None],
        leaves: Callable[[Process, Incarnation], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`settings` are told to each incarnation. One that `overlaps` is stopped when its successor is up, others
        before it starts, and killed after `grace` seconds. `changed` is called when a process begins or ends, `leaves`
        when one asks to be replaced; `spawn` runs something in the background."""
        self.role = role
        self.restarts = 0
        """How often one ended by itself, or had to be killed."""
        self.replaced = 0
        """How often one made room for another in good order."""
        self._current: Incarnation | None = None
        self.all: set[Incarnation] = set()
        """Also those that start, and those that drain."""
        self._make = make
        self._settings = settings
        self._overlaps = overlaps
        self._grace = grace
        self._changed = changed
        self._leaves = leaves
        self._spawn = spawn
        self._failures = 0
        self._stopping = asyncio.Event()
        self._changing = asyncio.Lock()

    def report(self) -> list[dict[str, Any]]:
        """For `/healthz`: the process in the place (number None while there is none) and those that drain."""
        counts = {"restarts": self.restarts, "replaced": self.replaced}
        draining = [one for one in self.all if one.leaving and one is not self._current]
        return [
            {"role": self.role.partition(" ")[0], "pid": one.pid, "since": one.since, **counts} | extra
            for one, extra in [(self._current, {}), *((one, {"draining": True}) for one in draining)]
            if one is not None
        ]

    async def start(self) -> None:
        """Raises `OSError`."""
        await self._fill()

    async def up(self) -> None:
        """Wait until the process says that it works. Raises `EOFError` when it ends instead."""
        assert self._current is not None
        await self._current.up()

    async def _fill(self) -> None:
        self._current = await self._begin()
        self._changed()

    async def _begin(self) -> Incarnation:
        incarnation = self._make()
        self.all.add(incarnation)
        try:
            await incarnation.start(self._settings(), lambda: self._leaves(self, incarnation))
        except BaseException:
            self._forget(incarnation)
            raise
        self._spawn(self._watch(incarnation))
        return incarnation

    async def _watch(self, incarnation: Incarnation) -> None:
        code = await incarnation.ended()
        self._forget(incarnation)
        if incarnation.leaving:
            return
        self.restarts += 1
        _log.error("%s ended: %s", self.role, _how(code))
        async with self._changing:
            if incarnation is self._current:
                self._failures = 0 if incarnation.ran > _SETTLED_SECONDS else self._failures + 1
                await self._begin_again()

    def _forget(self, incarnation: Incarnation) -> None:
        self.all.discard(incarnation)
        # Its books may be closed.
        incarnation.row["ended"] = 1
        self._changed()

    async def _begin_again(self) -> None:
        """Start one, after a pause where the last ones ended too soon, until one can be started."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _pause(self._failures))
                return
            try:
                await self._fill()
            except OSError as error:
                self._failures += 1
                _log.error("%s cannot be started: %s; it is tried again", self.role, error)
            else:
                return

    async def reconfigure(self) -> str:
        """What the process says to its settings as they are now. Raises `EOFError` when it ends instead: its successor
        begins with them."""
        async with self._changing:
            assert self._current is not None
            return await self._current.ask(self._settings())

    async def replace(self, old: Incarnation | None = None) -> None:
        """Put another process in the place of `old`, if that still has it, or of whichever has it. No connection and no
        record is lost.

        Raises `OSError` or `EOFError` when the other does not come up: the old one stays then, where they overlap.
        """
        async with self._changing:
            current = self._current
            if current is None or old not in (None, current):
                return
            if self._overlaps:
                successor = await self._begin()
                await successor.up()
                self._current = successor
                current.tell(REPLACED)
                current.leaving = True
                self._spawn(self._end(current))
            else:
                current.tell(REPLACED)
                await self._end(current)
                self._failures = 0
                await self._begin_again()
                await self.up()
            self.replaced += 1
            self._changed()

    async def _end(self, incarnation: Incarnation) -> None:
        grace = self._grace()
        if not await incarnation.stop(grace):
            _log.warning("%s did not stop within %g s: killed", self.role, grace)

    async def stop(self) -> None:
        """For good."""
        self._stopping.set()
        async with self._changing:
            await asyncio.gather(*(self._end(incarnation) for incarnation in self.all))

    def look(self, patience: float) -> None:
        """The watchdog, once a second: kill what has not moved for `patience` seconds; another takes its place."""
        for incarnation in self.all:
            if not incarnation.leaving and incarnation.hangs(patience):
                _log.error("%s does not move: killed", self.role, extra={"pid": incarnation.pid})
                incarnation.kill()


def _pause(failures: int) -> float:
    """Seconds before the next start."""
    return 0.0 if failures <= _PROMPT else min(0.1 * 2.0 ** (failures - _PROMPT), _LONGEST_PAUSE)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
