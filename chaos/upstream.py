"""The paced upstream of the benchmarks, with what a judge needs: it names its incarnation in every answer, and the
digest of the body it was sent.

    python -m chaos.upstream --port 8000 --incarnation 3
"""

from __future__ import annotations

import asyncio
import hashlib

import click
import msgspec
import uvloop

from benchmarks.upstream import ChatRequest, Pace, Upstream
from chaos import wire

INCARNATION = b"x-upstream-incarnation"
DIGEST = b"x-upstream-body"
_SLOTS = 10

_request = msgspec.json.Decoder(ChatRequest)


class Incarnation(Upstream):
    """One connection of a client to the process called `number`."""

    def __init__(self, pace: Pace, number: int) -> None:
        super().__init__(pace)
        self._own_fields = b"%b: %d\r\n" % (INCARNATION, number)

    def on_message_complete(self) -> None:
        self.fields = self._own_fields + b"%b: %b\r\n" % (DIGEST, digest(self._body))
        if self._url == wire.EMBEDDINGS:
            self._reply(200, wire.embedding(_request.decode(self._body).seed))
        else:
            super().on_message_complete()


def digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()


@click.command()
@click.option("--port", required=True, type=int)
@click.option("--incarnation", required=True, type=int)
@click.option("--interval-ms", default=10.0, help="Between two tokens of a stream.")
def main(port: int, incarnation: int, interval_ms: float) -> None:
    """Serve until killed."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        pace = Pace(loop, interval_ms / 1000, _SLOTS)
        server = await loop.create_server(
            lambda: Incarnation(pace, incarnation), "127.0.0.1", port, backlog=4096
        )
        await server.serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
