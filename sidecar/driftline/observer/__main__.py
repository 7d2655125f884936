"""`python -m driftline.observer`: started by the supervisor only.

Records are taken from the first moment; the observers, whose imports take most of a second, follow.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from driftline import logs
from driftline.control import Control
from driftline.observer.intake import Intake
from driftline.relay.counters import Block

if TYPE_CHECKING:
    from driftline.observer.service import Service

_log = logging.getLogger(__name__)
_DRAIN_SECONDS = 5.0


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
    first = await control.receive(First)
    module = await asyncio.to_thread(importlib.import_module, "driftline.observer.service")
    service: Service = module.Service(first.config, intake)
    service.processes = first.state.processes
    await service.start(socket.socket(fileno=arguments.admin))
    intake.open(service.consume)
    ticking = asyncio.create_task(_tick(service, intake))
    await _listen(control, service)
    # The relays have drained before; what they sent last is still on its way.
    deadline = loop.time() + _DRAIN_SECONDS
    while not intake.idle and loop.time() < deadline:  # noqa: ASYNC110  # ends once, at shutdown
        await asyncio.sleep(0.01)
    ticking.cancel()
    server.close()
    await service.stop()


async def _listen(control: Control, service: Service) -> None:
    """Follow the supervisor's news until it says to stop, by ending the line."""
    while True:
        try:
            state = await control.receive(State)
        except EOFError:
            return
        service.processes = state.processes


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(run(arguments))


if __name__ == "__main__":
    main()
