"""The clients: each asks for one thing after the other, checks every byte, and sometimes leaves early.

    python -m chaos.load --target 127.0.0.1:8080 --seconds 60 --seed 7

Prints a `ledger.Traffic` as JSON. What is asked, by whom and in which order depends on the seed alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random

import click
import msgspec
import uvloop

from benchmarks import wire as chat
from chaos import wire
from chaos.client import Answer, Connection
from chaos.ledger import End, Kind, Request, Traffic
from chaos.upstream import DIGEST, INCARNATION, digest

THINK = 0.15
"""Seconds a client waits at most between two requests."""
RETRY = 1.0
"""And at most after one that did not get what it wanted."""
PATIENCE = 60.0
"""Seconds without an end after which a request counts as hung: far beyond any stream, pause and restart together."""
_PIECE = 64 * 1024


class Wish(msgspec.Struct, frozen=True):
    """What one client wants next."""

    number: int
    kind: Kind
    tokens: int = wire.REPLY_TOKENS
    size: int = 0
    """Bytes of picture, where it is an upload."""
    chunked: bool = False
    seconds_per_piece: float = 0.0
    leaves_after: float | None = None
    resets: bool = False
    afresh: bool = False
    """On a connection of its own."""

    @classmethod
    def draw(cls, number: int, rng: Random) -> Wish:
        kind: Kind = rng.choices(("stream", "plain", "embeddings", "upload"), (60, 25, 8, 7))[0]
        leaves = rng.random() < 0.12
        return cls(
            number=number,
            kind=kind,
            tokens=round(2 ** rng.uniform(1, 8.5)) if kind == "stream" else wire.REPLY_TOKENS,
            size=round(2 ** rng.uniform(16, 21)) if kind == "upload" else 0,
            chunked=kind == "upload" and rng.random() < 0.5,
            seconds_per_piece=rng.choice((0.0, 0.0, 0.05)),
            leaves_after=rng.choice((0.0, 0.001, rng.uniform(0, 1))) if leaves else None,
            resets=rng.random() < 0.5,
            afresh=rng.random() < 0.3,
        )

    @property
    def body(self) -> bytes:
        if self.kind == "upload":
            return wire.upload(self.number, self.size)
        if self.kind == "embeddings":
            return wire.embedding_request(self.number)
        return chat.request_body(
            self.number, tokens=self.tokens, stream=self.kind == "stream", model=wire.MODEL
        )

    def fault(self, answer: Answer, sent: bytes) -> str:
        """What is wrong with the bytes of a whole answer; empty if nothing is."""
        if self.kind == "stream":
            seen = chat.Expected(self.number, self.tokens).check(bytes(answer.body))
            return seen if isinstance(seen, str) else ""
        expected = wire.embedding(self.number) if self.kind == "embeddings" else chat.reply(self.number)
        if answer.body != expected:
            return "the answer is altered"
        return (
            "" if answer.fields.get(DIGEST.decode()) == digest(sent).decode() else "the request was altered"
        )


class Clients:
    """All clients of a run, and what they have seen so far."""

    def __init__(self, target: str, seed: int, end: float) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._seed = seed
        self._end = end
        self._number = 0
        self._asked: Counter[str] = Counter()
        self._complete: Counter[str] = Counter()
        self._others: list[Request] = []
        self._connections = 0

    async def run(self, count: int) -> Traffic:
        await asyncio.gather(*(self._one(client, count) for client in range(count)))
        return Traffic(self._asked, self._complete, self._others, self._connections)

    async def _one(self, client: int, count: int) -> None:
        rng = Random(f"{self._seed} {client}")
        connection: Connection | None = None
        number = client
        while time.monotonic() < self._end:
            await asyncio.sleep(rng.uniform(0, THINK))
            number += count
            wish = Wish.draw(number, rng)
            if connection is not None and (wish.afresh or not connection.usable):
                connection.close()
                connection = None
            if connection is None:
                connection = await self._connect(wish)
            if connection is not None and not await self._fulfil(wish, connection):
                await asyncio.sleep(rng.uniform(0, RETRY))
        if connection is not None:
            connection.close()

    async def _connect(self, wish: Wish) -> Connection | None:
        began = time.monotonic_ns()
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection, self._host, self._port
            )
        except OSError as error:
            now = time.monotonic_ns()
            self._others.append(
                Request(wish.number, wish.kind, "no connection", 0, began, began, now, detail=str(error))
            )
            return None
        self._connections += 1
        return connection

    async def _fulfil(self, wish: Wish, connection: Connection) -> bool:
        """Whether it got what it wanted."""
        body = wish.body
        self._asked[wish.kind] += 1
        asked_at = time.monotonic_ns()
        answer, end = await _ask(wish, body, connection)
        detail = answer.fault
        if end == "complete" and not (detail := wish.fault(answer, body)):
            self._complete[wish.kind] += 1
            return True
        request = Request(
            number=wish.number,
            kind=wish.kind,
            end="altered" if end == "complete" else end,
            port=connection.port,
            opened_at=connection.opened_at,
            asked_at=asked_at,
            ended_at=time.monotonic_ns(),
            status=answer.status,
            incarnation=int(answer.fields.get(INCARNATION.decode(), 0)),
            trace_id=answer.fields.get("x-driftline-trace-id", ""),
            received=len(answer.body),
            detail=answer.body.decode(errors="replace") if end == "refused" else detail,
        )
        self._others.append(request)
        return False


async def _ask(wish: Wish, body: bytes, connection: Connection) -> tuple[Answer, End]:
    """What came back, and how it ended; whether its bytes are right is not looked at yet."""
    uploads = wish.kind == "upload"
    answer = connection.ask(_head(wish, len(body)) + (b"" if uploads else body))
    sending = asyncio.create_task(_send(connection, wish, body)) if uploads else None
    try:
        async with asyncio.timeout(PATIENCE if wish.leaves_after is None else wish.leaves_after):
            await answer.ended.wait()
    except TimeoutError:
        connection.leave(reset=wish.resets)
        return answer, "hung" if wish.leaves_after is None else "left"
    finally:
        if sending is not None and not sending.done():
            # What is left of the request is not sent, so nothing may follow it.
            sending.cancel()
            connection.close()
    if not answer.whole:
        return answer, "broken"
    return answer, "complete" if answer.status == 200 else "refused"


def _head(wish: Wish, length: int) -> bytes:
    path = wire.EMBEDDINGS if wish.kind == "embeddings" else wire.CHAT
    framing = b"Transfer-Encoding: chunked" if wish.chunked else b"Content-Length: %d" % length
    return b"POST %b HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\n%b\r\n\r\n" % (
        path,
        framing,
    )


async def _send(connection: Connection, wish: Wish, body: bytes) -> None:
    """The body of an upload, piece by piece."""
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        connection.write(chat.chunk(piece) if wish.chunked else piece)
        await asyncio.sleep(wish.seconds_per_piece)
    if wish.chunked:
        connection.write(b"0\r\n\r\n")


@click.command()
@click.option("--target", required=True, help="host:port of the sidecar.")
@click.option("--seconds", required=True, type=float, help="After which no request begins.")
@click.option("--seed", required=True, type=int)
@click.option("--clients", default=48, help="At once.")
def main(target: str, seconds: float, seed: int, clients: int) -> None:
    """Ask, check, and sometimes leave, for a while."""
    crowd = Clients(target, seed, time.monotonic() + seconds)
    print(msgspec.json.encode(uvloop.run(crowd.run(clients))).decode())


if __name__ == "__main__":
    main()
