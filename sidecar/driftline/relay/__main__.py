"""`python -m driftline.relay`: started by the supervisor only. It imports nothing that a relay does not need."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import socket

import uvloop

from driftline import logs
from driftline.control import LEAVING, RELOADED, REPLACED, UP, Control
from driftline.relay.channel import Channel
from driftline.relay.counters import Block
from driftline.relay.server import Relay
from driftline.relay.settings import DataPlane


async def run(arguments: argparse.Namespace) -> None:
    control = await Control.over(arguments.control)
    settings = await control.receive(DataPlane)
    row = Block(arguments.counters).row(arguments.row)
    channel = Channel(arguments.channel, row)
    channel.start()
    relay = Relay(settings, channel, row)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, control.say, LEAVING)
    await relay.start(socket.socket(fileno=arguments.listener))
    # What is loaded now stays: the collector need not look at it again, and may look at the rest less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    control.say(UP)
    await relay.drain(replaced=await follow(control, relay))


async def follow(control: Control, relay: Relay) -> bool:
    """Take new settings until the supervisor ends the line; whether another relay has the listener by then."""
    replaced = False
    while True:
        try:
            message = await control.receive(DataPlane | str)  # type: ignore[arg-type]  # msgspec knows unions
        except EOFError:
            return replaced
        if isinstance(message, DataPlane):
            try:
                await relay.reload(message)
            except (OSError, ValueError) as error:
                control.say(str(error))
            else:
                control.say(RELOADED)
        else:
            replaced = message == REPLACED


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("control", "counters", "listener", "row"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--channel", required=True)
    arguments = parser.parse_args()
    logs.configure("relay")
    # Signals to the whole group, such as a terminal's Ctrl-C, are the supervisor's to interpret.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(run(arguments))


if __name__ == "__main__":
    main()
