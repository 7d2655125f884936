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

from benchmarks.upstream import Paces, Request, Upstream
from chaos import wire

INCARNATION = b"x-upstream-incarnation"
DIGEST = b"x-upstream-body"

_request = msgspec.json.Decoder(Request)


class Incarnation(Upstream):
    """One connection of a client to the process called `number`."""

    def __init__(self, paces: Paces, number: int) -> None:
        super().__init__(paces)
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
def main(port: int, incarnation: int) -> None:
    """Serve until killed."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        paces = Paces(loop)
        server = await loop.create_server(
            lambda: Incarnation(paces, incarnation), "127.0.0.1", port, backlog=4096
        )
        await server.serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
