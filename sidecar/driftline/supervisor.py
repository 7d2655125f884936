"""The supervisor: opens the sockets, keeps them, and keeps relays and observer running.

It owns what has to outlive the processes that work: the listening sockets (a restarted relay inherits its
predecessor's queue of connections), the block of counters, and the socket on which the observer takes records.
It relays nothing and decodes nothing, so there is little that can end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from driftline.config import Config
from driftline.control import Control
from driftline.listeners import Address, listen, listen_many, spelled
from driftline.relay.counters import Block
from driftline.state_dir import claim

_log = logging.getLogger(__name__)
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0
_SETTLED_SECONDS = 10.0
"""A process that ran this long starts again without delay."""
_OBSERVER_GRACE = 10.0


class Process:
    """One child, started again whenever it ends by itself."""

    def __init__(
        self,
        role: str,
        command: Callable[[Process], list[str]],
        *,
        sockets: list[int],
        after: Callable[[Process], None] = lambda _: None,
    ) -> None:
        """`after` is called when it has ended by itself, before it is started again."""
        self.role = role
        self.restarts = -1
        self.since = 0.0
        self.row = 0
        """Of the counters, where the process is a relay."""
        self._command = command
        self._inherits = sockets
        self._after = after
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, message: Callable[[], Any]) -> None:
        """Start the program and tell it its settings, the first message on its line."""
        ours, theirs = socket.socketpair()
        self.restarts += 1
        self.since = time.time()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command(self),
                "--control",
                str(theirs.fileno()),
                pass_fds=[*self._inherits, theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = await Control.over(ours)
        self._control.say(message())

    async def up(self) -> None:
        """Wait until the process says that it works. Raises `EOFError` when it ends instead."""
        assert self._control is not None
        await self._control.receive(str)

    def tell(self, message: Any) -> None:
        if self._control is not None:
            self._control.say(message)

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, grace: float) -> None:
        """Ask it to finish; kill it after `grace` seconds."""
        self._stopping = True
        if self._process is None or self._control is None:
            return
        self._control.end()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            _log.warning("%s did not stop within %g s: killed", self.role, grace)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        finally:
            self._control.close()

    async def keep(self, message: Callable[[], Any], changed: Callable[[], None]) -> None:
        """Wait for the process to end and start it again, until it is stopped."""
        delay = _FIRST_DELAY
        while True:
            code = await self.ended()
            if self._stopping:
                return
            _log.error(
                "%s ended: %s; starting it again", self.role, _how(code), extra={"pid": self._pid_was()}
            )
            if self._control is not None:
                self._control.close()
            self._after(self)
            changed()
            delay = (
                _FIRST_DELAY
                if time.time() - self.since > _SETTLED_SECONDS
                else min(delay * 2, _LONGEST_DELAY)
            )
            if delay > _FIRST_DELAY * 2:
                await asyncio.sleep(delay)
            if self._stopping:
                return
            try:
                await self.start(message)
            except OSError as error:
                _log.error("%s cannot be started: %s; it is tried again", self.role, error)
                await asyncio.sleep(delay)
                continue
            changed()

    def _pid_was(self) -> int:
        return self._process.pid if self._process else 0


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


class Supervisor:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = Path(tempfile.mkdtemp(prefix="driftline-"))
        self._block, self._counters = Block.create()
        self._stop = asyncio.Event()
        self._incarnations = 0
        self._sockets: list[socket.socket] = []
        self._listening: list[socket.socket] = []
        """Those of the data port."""
        self._observer: Process
        self._relays: list[Process] = []
        self._keepers: set[asyncio.Task[None]] = set()
        self._since = time.time()
        self._state_lock: IO[str] | None = None

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status."""
        loop = asyncio.get_running_loop()
        try:
            self._state_lock = claim(Path(self._config.state_dir))
            data, admin = self._open()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self._not_reloadable)
            self._observer = self._make_observer(admin)
            self._relays = [self._make_relay(sock, number) for number, sock in enumerate(data)]
            await self._observer.start(self._observer_message)
            for relay in self._relays:
                await relay.start(self._relay_message)
            for relay in self._relays:
                await relay.up()
            self._changed()
            self._announce(data[0], admin)
            for process in self._processes:
                message = self._observer_message if process is self._observer else self._relay_message
                self._keep(process, message)
            await self._stop.wait()
            await self._shut_down()
        except EOFError:
            _log.error("a relay ended while it started; what it said stands above")
            return 1
        finally:
            self._close()
        return 0

    def _open(self) -> tuple[list[socket.socket], socket.socket]:
        config = self._config
        data = self._listening = listen_many(Address(config.listen), config.relays)
        self._sockets += data
        admin = listen(Address(config.admin.listen))
        self._sockets.append(admin)
        return data, admin

    def _make_observer(self, admin: socket.socket) -> Process:
        records = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        records.bind(str(self._channel))
        records.listen(128)
        self._sockets.append(records)
        sockets = [records.fileno(), admin.fileno(), self._counters.fileno()]
        return Process(
            "observer",
            lambda _: [
                *("-m", "driftline.observer"),
                *("--records", str(records.fileno())),
                *("--admin", str(admin.fileno())),
                *("--counters", str(self._counters.fileno())),
            ],
            sockets=sockets,
        )

    def _make_relay(self, listener: socket.socket, number: int) -> Process:
        return Process(
            f"relay {number}",
            lambda process: [
                *("-m", "driftline.relay"),
                *("--listener", str(listener.fileno())),
                *("--counters", str(self._counters.fileno())),
                *("--row", str(self._allocate_row(process))),
                *("--channel", str(self._channel)),
            ],
            sockets=[listener.fileno(), self._counters.fileno()],
            after=self._relay_ended,
        )

    @property
    def _channel(self) -> Path:
        return self._folder / "records.sock"

    @property
    def _processes(self) -> list[Process]:
        return [*self._relays, self._observer]

    def _allocate_row(self, process: Process) -> int:
        """A row of its own for each incarnation: a dead one's books are closed apart."""
        self._incarnations += 1
        process.row = self._block.allocate(self._incarnations).index
        return process.row

    def _relay_ended(self, process: Process) -> None:
        """From now on its books may be closed."""
        self._block.row(process.row)["ended"] = 1

    # What the processes are told

    def _relay_message(self) -> Any:
        return self._config.data_plane(os.environ)

    def _observer_message(self) -> Any:
        return {"config": msgspec.to_builtins(self._config), "state": self._state()}

    def _state(self) -> dict[str, Any]:
        """Who runs: for `/healthz`."""
        own = {"role": "supervisor", "pid": os.getpid(), "restarts": 0, "since": self._since}
        others = [
            {"role": p.role.partition(" ")[0], "pid": p.pid, "restarts": p.restarts, "since": p.since}
            for p in self._processes
        ]
        return {"processes": [own, *others]}

    def _changed(self) -> None:
        self._observer.tell(self._state())

    def _keep(self, process: Process, message: Callable[[], Any]) -> None:
        task = asyncio.create_task(process.keep(message, self._changed), name=f"keep {process.role}")
        self._keepers.add(task)
        task.add_done_callback(self._keeper_ended)

    def _keeper_ended(self, task: asyncio.Task[None]) -> None:
        self._keepers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("cannot keep a process running: stopping", exc_info=error)
            self._stop.set()

    def _announce(self, data: socket.socket, admin: socket.socket) -> None:
        upstreams = [endpoint.url for pool in self._config.pools for endpoint in pool.endpoints]
        _log.info(
            "listening",
            extra={
                "data": spelled(data),
                "admin": spelled(admin),
                "upstreams": upstreams,
                "pid": os.getpid(),
            },
        )

    def _not_reloadable(self) -> None:
        _log.warning(
            "SIGHUP: nothing can be reloaded in this version; restart to apply a changed configuration"
        )

    # The end

    async def _shut_down(self) -> None:
        grace = self._config.timeouts.drain
        _log.info("stopping: requests in flight have %g s", grace)
        # The relays hold the last descriptors now: when they stop accepting, clients are refused, not left waiting.
        for sock in self._listening:
            sock.close()
        await asyncio.gather(*(relay.stop(grace + 5) for relay in self._relays))
        await self._observer.stop(_OBSERVER_GRACE)
        _log.info("stopped")

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._counters.close()
        if self._state_lock is not None:
            self._state_lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(config: Config) -> int:
    """Run the sidecar until it is told to stop. Raises `OSError` when a port cannot be had."""
    return asyncio.run(_run(config))


async def _run(config: Config) -> int:
    return await Supervisor(config).run()
