"""The supervisor: opens the sockets, keeps them, and keeps relays and observer running.

It owns what has to outlive the processes that work: the listening sockets (a restarted relay inherits its
predecessor's queue of connections), the block of counters, and the socket on which the observer takes records.
It relays nothing and decodes nothing, so there is little that can end it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import IO, Any

import msgspec

from driftline import descriptors
from driftline.config import Config, ConfigError
from driftline.control import RELOADED
from driftline.listeners import Address, listen, listen_many, spelled
from driftline.process import Incarnation, Process
from driftline.relay.counters import Block, Row
from driftline.reload import plan
from driftline.state_dir import claim

_log = logging.getLogger(__name__)
_OBSERVER_GRACE = 15.0
_LOOK_SECONDS = 1.0
"""Between two looks of the watchdog."""


class Supervisor:
    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        """`read` gives the configuration as it is written now; it raises `ConfigError`."""
        self._config = config
        self._read = read
        self._folder = Path(tempfile.mkdtemp(prefix="driftline-"))
        self._block, self._counters = Block.create()
        self._stop = asyncio.Event()
        self._incarnations = 0
        self._sockets: list[socket.socket] = []
        self._listening: list[socket.socket] = []
        """Those of the data port."""
        self._observer: Process
        self._relays: list[Process] = []
        self._orders: asyncio.Queue[Callable[[], Awaitable[object]]] = asyncio.Queue()
        """What signals ask for, to be done one after the other."""
        self._background: set[asyncio.Task[None]] = set()
        self._since = time.time()
        self._state_lock: IO[str] | None = None

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status."""
        try:
            self._state_lock = claim(Path(self._config.state_dir))
            data, admin = self._open()
            self._heed_signals()
            self._observer = self._make_observer(admin)
            self._relays = [self._make_relay(sock, number) for number, sock in enumerate(data)]
            for process in (self._observer, *self._relays):
                await process.start()
            for relay in self._relays:
                await relay.up()
            self._announce(data[0], admin)
            watchdog, orders = self._spawn(self._watch()), self._spawn(self._obey())
            await self._stop.wait()
            for task in (watchdog, orders):
                task.cancel()
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

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._orders.put_nowait, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._orders.put_nowait, self._replace_all)

    # The processes

    def _make_observer(self, admin: socket.socket) -> Process:
        records = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        records.bind(str(self._channel))
        records.listen(128)
        self._sockets.append(records)
        arguments = [
            *("-m", "driftline.observer"),
            *("--records", str(records.fileno())),
            *("--admin", str(admin.fileno())),
            *("--counters", str(self._counters.fileno())),
        ]
        sockets = [records.fileno(), admin.fileno(), self._counters.fileno()]
        return Process(
            "observer",
            lambda: Incarnation(arguments, self._block.row(0), sockets=sockets),
            lambda: {"config": msgspec.to_builtins(self._config), "state": self._state()},
            overlaps=False,
            grace=lambda: _OBSERVER_GRACE,
            changed=self._changed,
            leaves=self._leaves,
            spawn=self._spawn,
        )

    def _make_relay(self, listener: socket.socket, number: int) -> Process:
        def make() -> Incarnation:
            row = self._allocate_row()
            arguments = [
                *("-m", "driftline.relay"),
                *("--listener", str(listener.fileno())),
                *("--counters", str(self._counters.fileno())),
                *("--row", str(row.index)),
                *("--channel", str(self._channel)),
            ]
            sockets = [listener.fileno(), self._counters.fileno()]
            return Incarnation(arguments, row, sockets=sockets)

        return Process(
            f"relay {number}",
            make,
            lambda: self._config.data_plane(os.environ),
            overlaps=True,
            grace=lambda: self._config.timeouts.drain + 5,
            changed=self._changed,
            leaves=self._leaves,
            spawn=self._spawn,
        )

    @property
    def _channel(self) -> Path:
        return self._folder / "records.sock"

    @property
    def _processes(self) -> list[Process]:
        return [*self._relays, self._observer]

    def _allocate_row(self) -> Row:
        """One for each incarnation: a dead one's books are closed apart."""
        self._incarnations += 1
        return self._block.allocate(self._incarnations)

    # What they are told

    def _state(self) -> dict[str, Any]:
        """Who runs: for `/healthz`."""
        own = {"role": "supervisor", "pid": os.getpid(), "restarts": 0, "replaced": 0, "since": self._since}
        return {"processes": [own, *(line for process in self._processes for line in process.report())]}

    def _changed(self) -> None:
        for incarnation in self._observer.all:
            incarnation.tell(self._state())

    def _announce(self, data: socket.socket, admin: socket.socket) -> None:
        upstreams = [endpoint.url for pool in self._config.pools for endpoint in pool.endpoints]
        _log.info(
            "listening",
            extra={
                "url": f"{'https' if self._config.tls else 'http'}://{spelled(data)}",
                "data": spelled(data),
                "admin": spelled(admin),
                "upstreams": upstreams,
                "pid": os.getpid(),
            },
        )

    # In the background

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("cannot keep the processes running: stopping", exc_info=error)
            self._stop.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if patience := self._config.timeouts.watchdog:
                for process in self._processes:
                    process.look(patience)

    async def _obey(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                await order()
            except Exception:  # noqa: BLE001  # whatever it is, what runs is to go on
                _log.exception("what a signal asked for failed; what runs goes on")

    def _leaves(self, process: Process, incarnation: Incarnation) -> None:
        """Somebody has sent SIGTERM to one of ours: it may go when its successor is there."""
        self._orders.put_nowait(lambda: self._replace(process, incarnation))

    async def _replace(self, process: Process, incarnation: Incarnation | None = None) -> bool:
        """Whether another process is in the place."""
        try:
            await process.replace(incarnation)
        except (OSError, EOFError) as error:
            _log.error("%s cannot be replaced: %s", process.role, error)
            return False
        return True

    async def _replace_all(self) -> None:
        _log.info("SIGUSR2: replacing the processes one by one")
        for process in self._processes:
            if not await self._replace(process):
                _log.error("SIGUSR2: stopped there; what runs goes on")
                return
        _log.info("SIGUSR2: all processes are replaced")

    async def _reload(self) -> None:
        old = self._config
        try:
            change = plan(old, self._read())
        except (ConfigError, ValueError) as error:
            _log.error("SIGHUP: %s; nothing is changed", error)
            return
        if change.held_back:
            _log.warning("needs a restart: %s", "; ".join(change.held_back))
        self._config = change.config
        if change.observer and not await self._replace(self._observer):
            self._config = old
            _log.error("SIGHUP: the observer does not run with this configuration; nothing is changed")
            return
        for relay in self._relays:
            await self._reconfigure(relay)
        certificates = self._config.tls or any(
            endpoint.secure for pool in self._config.pools for endpoint in pool.endpoints
        )
        read_again = "; certificates are read again" if certificates else ""
        _log.info("SIGHUP: reloaded%s", read_again, extra={"changed": change.changed})

    async def _reconfigure(self, relay: Process) -> None:
        try:
            answer = await relay.reconfigure()
        except EOFError:
            return  # its successor begins with the new settings
        if answer != RELOADED:
            _log.error("SIGHUP: %s keeps its old settings: %s", relay.role, answer)

    # The end

    async def _shut_down(self) -> None:
        _log.info("stopping: requests in flight have %g s", self._config.timeouts.drain)
        # The relays hold the last descriptors now: when they stop accepting, clients are refused, not left waiting.
        for sock in self._listening:
            sock.close()
        await asyncio.gather(*(relay.stop() for relay in self._relays))
        await self._observer.stop()
        _log.info("stopped")

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._counters.close()
        if self._state_lock is not None:
            self._state_lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(config: Config, read: Callable[[], Config]) -> int:
    """Run the sidecar until it is told to stop; `read` gives the configuration again. Raises `OSError` when a port
    cannot be had."""
    descriptors.raise_limit()
    return asyncio.run(_run(config, read))


async def _run(config: Config, read: Callable[[], Config]) -> int:
    return await Supervisor(config, read).run()
