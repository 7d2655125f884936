"""Records from a relay to the observer, over the real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from driftline import exchange as exchanges
from driftline.exchange import Body, Exchange
from driftline.observer.intake import Intake
from driftline.relay.channel import GREETING, LENGTH, MAGIC, MAX_RECORD, Channel
from driftline.relay.counters import Block
from tests.relay.rig import eventually


def record(number: int, body: bytes = b"{}") -> Exchange:
    return Exchange(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        method="POST",
        target="/v1/chat/completions",
        request_body=Body(head=body, size=len(body)),
        outcome="complete",
        received_at=number,
    )


class Wire:
    """A channel and an intake, and whatever the intake has taken."""

    def __init__(self, tmp_path, bound):
        self.block, self.file = Block.create()
        self.path = str(tmp_path / "c.sock")
        self.row = self.block.allocate(1)
        self.channel = Channel(self.path, self.row, bound=bound)
        self.seen: list[Exchange] = []
        self.server = None

    async def listen(self, *, taking=True):
        self.intake = Intake(self.block)
        self.server = await asyncio.get_running_loop().create_unix_server(self.intake.connection, self.path)
        if taking:
            self.take()

    def take(self):
        self.intake.open(self.consume)

    def consume(self, data):
        """As the observer's service does: False for what it cannot read."""
        try:
            self.seen.append(exchanges.decode(data))
        except msgspec.MsgspecError:
            return False
        return True

    def kill_observer(self):
        self.server.close()
        for connection in list(self.intake._connections):
            connection._transport.abort()


@pytest.fixture
async def wire(tmp_path, request):
    made = Wire(tmp_path, getattr(request, "param", 1_000_000))
    yield made
    await made.channel.drain(0)
    if made.server:
        made.server.close()
    made.file.close()


async def test_records_arrive_whole_and_in_order(wire):
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.channel._transport)
    sent = [record(number, bytes(number * 37)) for number in range(1, 200)]
    for one in sent:
        wire.channel.send(one)
    await eventually(lambda: wire.row["observed"] == len(sent))
    assert wire.seen == sent


async def test_records_wait_for_observers_that_are_still_loading(wire):
    await wire.listen(taking=False)
    wire.channel.start()
    await eventually(lambda: wire.channel._transport)
    wire.channel.send(record(1))
    await eventually(lambda: wire.intake._held)
    assert wire.row["observed"] == 0
    wire.take()
    assert (wire.seen, wire.row["observed"]) == ([record(1)], 1)


async def test_without_an_observer_records_are_dropped_and_counted(wire):
    wire.channel.start()
    for number in range(1, 4):
        wire.channel.send(record(number))
    assert wire.row["dropped.channel_closed"] == 3


@pytest.mark.parametrize("wire", [100_000], indirect=True)
async def test_a_slow_observer_costs_records_and_never_memory(wire):
    """What does not fit the bound is dropped and counted; the rest arrives when reading goes on."""
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.intake._connections)
    await eventually(lambda: wire.channel._transport)
    (connection,) = wire.intake._connections
    connection.pause()
    for number in range(1, 101):
        wire.channel.send(record(number, bytes(20_000)))
    assert wire.channel._transport.get_write_buffer_size() <= 100_000
    assert wire.row["dropped.channel_full"] > 0
    await eventually(lambda: wire.row["sent"] + wire.row["dropped.channel_full"] == 100)
    connection.resume()
    await eventually(lambda: wire.row["observed"] == wire.row["sent"])


async def test_what_dies_with_an_observer_is_counted(wire):
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.intake._connections)
    await eventually(lambda: wire.channel._transport)
    (connection,) = wire.intake._connections
    connection.pause()
    for number in range(1, 6):
        wire.channel.send(record(number))
    await eventually(lambda: wire.row["sent"] == 5)
    wire.kill_observer()
    await eventually(lambda: wire.channel._transport is None)
    Path(wire.path).unlink(missing_ok=True)  # asyncio does so itself from 3.13 on
    await wire.listen()
    await eventually(lambda: wire.row["dropped.observer_lost"] == 5)
    await eventually(lambda: wire.channel._transport)
    wire.channel.send(record(6))
    await eventually(lambda: wire.row["observed"] == 1)
    assert wire.seen == [record(6)]


async def test_records_gathered_when_the_channel_breaks_go_to_the_next_one(wire):
    """Nothing counts as sent before it is written, so nothing is counted twice."""
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.channel._transport)
    wire.channel.send(record(1))
    wire.channel._transport.abort()
    await eventually(lambda: wire.row["observed"] + wire.row["dropped.channel_closed"] == 1)
    assert wire.row["sent"] == wire.row["observed"]
    assert wire.row["dropped.observer_lost"] == 0


@pytest.mark.parametrize("wire", [16_000_000], indirect=True)
async def test_a_record_beyond_the_limit_is_dropped_and_counted(wire):
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.channel._transport)
    wire.channel.send(record(1, bytes(MAX_RECORD)))
    assert wire.row["dropped.too_large"] == 1


async def test_a_record_that_cannot_be_read_is_counted_as_such_and_costs_no_other(wire):
    """Relay and observer may be of different versions for a moment."""
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.channel._transport)
    wire.channel._transport.write(LENGTH.pack(3) + b"\xc1\xc1\xc1")
    wire.channel.send(record(1))
    await eventually(lambda: wire.row["observed"] == 1)
    assert (wire.seen, wire.row["dropped.unreadable"]) == ([record(1)], 1)


async def test_a_stranger_on_the_socket_is_turned_away(wire):
    await wire.listen()
    reader, writer = await asyncio.open_unix_connection(wire.path)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


async def test_a_dead_relays_books_are_closed_when_all_it_sent_is_read(wire):
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.intake._connections)
    await eventually(lambda: wire.channel._transport)
    wire.row.add("started", 3)
    wire.channel.send(record(1))
    await eventually(lambda: wire.row["observed"] == 1)
    for _ in range(3):
        wire.intake.settle_dead()
    assert not wire.row["settled"], "it may be silent"
    wire.row["ended"] = 1
    for _ in range(3):
        wire.intake.settle_dead()
    assert not wire.row["settled"], "it is still connected"
    await wire.channel.drain(0)
    await eventually(lambda: not wire.intake._connections)
    wire.intake.settle_dead()
    assert not wire.row["settled"], "its connection may still wait to be accepted"
    wire.intake.settle_dead()
    assert (wire.row["settled"], wire.row["dropped.relay_lost"]) == (1, 2)


async def test_the_books_of_a_relay_that_has_hardly_started_stay_open(wire):
    """It may have the row of a dead one that was settled a moment ago, and not have connected yet."""
    await wire.listen()
    wire.row["ended"] = 1
    for _ in range(2):
        wire.intake.settle_dead()
    assert wire.row["settled"]
    successor = wire.block.allocate(2)
    assert successor.index == wire.row.index
    successor.add("started")
    for _ in range(3):
        wire.intake.settle_dead()
    assert not successor["settled"], "it is alive"
    successor["ended"] = 1
    wire.intake.settle_dead()
    assert not successor["settled"], "its connection may still wait to be accepted"
    wire.intake.settle_dead()
    assert (successor["settled"], successor["dropped.relay_lost"]) == (1, 1)


async def test_books_stay_open_while_someone_is_connected_who_has_not_said_who_it_is(wire):
    """It may be the relay in question, whose last records come behind its greeting."""
    await wire.listen()
    wire.row["ended"] = 1
    _, writer = await asyncio.open_unix_connection(wire.path)
    await eventually(lambda: wire.intake._connections)
    for _ in range(3):
        wire.intake.settle_dead()
    assert not wire.row["settled"]
    writer.write(GREETING.pack(MAGIC, wire.row.index))
    writer.close()
    await eventually(lambda: not wire.intake._connections)
    for _ in range(2):
        wire.intake.settle_dead()
    assert wire.row["settled"]


async def test_an_observer_that_leaves_closes_no_books(wire):
    """A relay that ends meanwhile has its last records where only the successor reads them: they would count twice."""
    await wire.listen()
    wire.row.add("started")
    wire.row["ended"] = 1
    wire.intake.say_goodbye()
    for _ in range(3):
        wire.intake.settle_dead()
    assert not wire.row["settled"]


async def test_an_observer_that_leaves_in_good_order_costs_no_record(wire):
    """What was sent is read to its end; what comes while nobody is there waits for the successor."""
    await wire.listen()
    wire.channel.start()
    await eventually(lambda: wire.intake._connections)
    await eventually(lambda: wire.channel._transport)
    for number in range(1, 51):
        wire.channel.send(record(number, bytes(10_000)))
    wire.server.close()
    leaving = wire.intake
    leaving.say_goodbye()
    await eventually(lambda: leaving.idle)
    for number in range(51, 101):
        wire.channel.send(record(number))
    Path(wire.path).unlink(missing_ok=True)  # asyncio does so itself from 3.13 on
    await wire.listen()
    await eventually(lambda: wire.row["observed"] == 100)
    assert [exchange.received_at for exchange in wire.seen] == list(range(1, 101))
    assert wire.row.dropped() == 0
