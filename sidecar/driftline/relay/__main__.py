"""`python -m driftline.relay`: started by the supervisor only. It imports nothing that a relay does not need."""

from __future__ import annotations

import argparse
import gc
import signal
import socket

import uvloop

from driftline import logs
from driftline.control import Control
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
    await relay.start(socket.socket(fileno=arguments.listener))
    # What is loaded now stays: the collector need not look at it again, and may look at the rest less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    control.say("up")
    # The next message is the word to stop; so is the supervisor's end.
    await control.closed()
    await relay.drain()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("control", "counters", "listener", "row"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--channel", required=True)
    arguments = parser.parse_args()
    logs.configure("relay")
    # A terminal's Ctrl-C reaches the whole group; the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(run(arguments))


if __name__ == "__main__":
    main()
