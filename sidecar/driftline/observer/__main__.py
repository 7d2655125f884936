"""`python -m driftline.observer`: started by the supervisor only.

Records are taken from the first moment; the observers, whose imports take most of a second, follow.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from driftline import logs
from driftline.control import LEAVING, REPLACED, UP, Control
from driftline.observer.intake import Intake
from driftline.relay.counters import Block, Row

if TYPE_CHECKING:
    from driftline.observer.service import Service

_log = logging.getLogger(__name__)
_DRAIN_SECONDS = 5.0
_BEAT_SECONDS = 0.25


class State(msgspec.Struct):
    """What the supervisor tells whenever a process starts or ends."""

    processes: list[dict[str, Any]]


class First(msgspec.Struct):
    config: dict[str, Any]
    state: State


async def run(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    intake = Intake(Block(arguments.counters))
    # A name for it: a server that nothing refers to is collected, and deaf.
    server = await loop.create_unix_server(intake.connection, sock=socket.socket(fileno=arguments.records))
    control = await Control.over(arguments.control)
    loop.add_signal_handler(signal.SIGTERM, control.say, LEAVING)
    first = await control.receive(First)
    module = await asyncio.to_thread(importlib.import_module, "driftline.observer.service")
    service: Service = module.Service(first.config, intake)
    service.processes = first.state.processes
    await service.start(socket.socket(fileno=arguments.admin))
    _spare_the_collector()
    intake.open(service.consume)
    ticking = asyncio.create_task(_tick(service, intake))
    beating = asyncio.create_task(_beat(intake.block.row(0)))
    control.say(UP)
    if await _listen(control, service):
        # Relays connect again: to the successor, for which the supervisor keeps the socket.
        server.close()
        intake.say_goodbye()
    # What the relays sent last is still on its way, those that have drained included.
    deadline = loop.time() + _DRAIN_SECONDS
    while not intake.idle and loop.time() < deadline:  # noqa: ASYNC110  # ends once, at shutdown
        await asyncio.sleep(0.01)
    beating.cancel()
    ticking.cancel()
    server.close()
    await service.stop()


def _spare_the_collector() -> None:
    """A call is a hundred objects and no cycle: looking for some after every few calls took a fifth of their time.
    What was loaded until now stays anyway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _listen(control: Control, service: Service) -> bool:
    """Follow the supervisor's news until it says to stop, by ending the line; whether another observer follows."""
    replaced = False
    while True:
        try:
            message = await control.receive(State | str)  # type: ignore[arg-type]  # msgspec knows unions
        except EOFError:
            return replaced
        if isinstance(message, State):
            service.processes = message.processes
        else:
            replaced = message == REPLACED


async def _beat(row: Row) -> None:
    """For the supervisor's watchdog."""
    while True:
        row.add("beat")
        await asyncio.sleep(_BEAT_SECONDS)


async def _tick(service: Service, intake: Intake) -> None:
    while True:
        await asyncio.sleep(1.0 - time.time() % 1.0)
        intake.settle_dead()
        service.tick(time.time())


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("control", "counters", "records", "admin"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    logs.configure("observer")
    # Drift adds up small arrays: threads for them would only hold memory, a stack and a buffer per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(run(arguments))


if __name__ == "__main__":
    main()
