"""The clients of a chaos run see what was done to their requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.upstream import Paces
from chaos import load, wire
from chaos.client import Connection
from chaos.ledger import Request
from chaos.load import Clients, Wish
from chaos.upstream import Incarnation, digest


class Altering(Incarnation):
    """One letter of each reply is another."""

    def _reply(self, status: int, body: bytes) -> None:
        super()._reply(status, body.replace(b"o", b"0", 1))


class Hearing(Incarnation):
    """Was sent more than its client had said."""

    def on_message_complete(self) -> None:
        self._body += b" "
        super().on_message_complete()


class Cutting(Incarnation):
    """Ends in the middle of each answer."""

    def _reply(self, status: int, body: bytes) -> None:
        super()._reply(status, body + b"more")
        self._transport.close()

    def _send(self, data: bytes) -> None:
        super()._send(data)
        self._transport.close()


class Silent(Incarnation):
    """Says nothing."""

    def on_message_complete(self) -> None:
        pass


class Refusing(Incarnation):
    def on_message_complete(self) -> None:
        self._reply(502, b'{"code":"upstream_failed"}')


@asynccontextmanager
async def serving(kind: type[Incarnation]) -> AsyncIterator[Callable[[Wish], object]]:
    """`ask(wish)`: what a client has to say of it; None if all was well."""
    loop = asyncio.get_running_loop()
    paces = Paces(loop)
    server = await loop.create_server(lambda: kind(paces, 3), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def ask(wish: Wish) -> Request | None:
        clients = Clients(f"127.0.0.1:{port}", 0, 0.0)
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        await clients._fulfil(wish, connection)
        connection.close()
        return clients._others[0] if clients._others else None

    async with server:
        yield ask


STREAM = Wish(number=1, kind="stream", tokens=5)
PLAIN = Wish(number=2, kind="plain")
EMBEDDINGS = Wish(number=3, kind="embeddings")
UPLOAD = Wish(number=4, kind="upload", size=200_000)
CHUNKED = Wish(number=5, kind="upload", size=200_000, chunked=True)
ALL = [STREAM, PLAIN, EMBEDDINGS, UPLOAD, CHUNKED]


async def test_what_arrives_whole_is_complete():
    async with serving(Incarnation) as ask:
        assert [await ask(wish) for wish in ALL] == [None] * 5


async def test_one_altered_byte_is_seen():
    async with serving(Altering) as ask:
        seen = [await ask(wish) for wish in ALL[1:]]
    assert [(one.end, one.detail) for one in seen] == [("altered", "the answer is altered")] * 4


async def test_a_request_that_arrived_otherwise_is_seen():
    async with serving(Hearing) as ask:
        seen = [await ask(wish) for wish in (PLAIN, UPLOAD, CHUNKED)]
    assert [(one.end, one.detail) for one in seen] == [("altered", "the request was altered")] * 3


async def test_an_answer_that_breaks_off_is_known_with_its_upstream():
    async with serving(Cutting) as ask:
        seen = await ask(STREAM)
    assert (seen.end, seen.status, seen.incarnation, seen.received > 0) == ("broken", 200, 3, True)


async def test_a_refusal_is_kept_in_its_words():
    async with serving(Refusing) as ask:
        seen = await ask(UPLOAD)
    assert (seen.end, seen.status, seen.detail) == ("refused", 502, '{"code":"upstream_failed"}')


@pytest.mark.parametrize("resets", [False, True])
async def test_a_client_that_leaves_is_no_fault(resets):
    async with serving(Silent) as ask:
        seen = await ask(Wish(number=6, kind="plain", leaves_after=0.0, resets=resets))
    assert (seen.end, seen.status) == ("left", 0)


async def test_silence_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(load, "PATIENCE", 0.05)
    async with serving(Silent) as ask:
        assert (await ask(PLAIN)).end == "hung"


async def test_no_two_requests_are_answered_alike():
    """Else an answer to another request would pass."""
    assert wire.embedding(1) != wire.embedding(2)
    assert digest(wire.upload(1, 100)) != digest(wire.upload(2, 100))
