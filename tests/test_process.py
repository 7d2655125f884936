"""Processes that are replaced while they work, and those that hang: what clients see of it, and what is counted."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from driftline.process import Incarnation, _pause
from driftline.relay.counters import Block
from tests.clients import Client, upstream
from tests.running import balanced, events, health, kill_successors, linux, logged, pids, running, until


async def again(work, stop):
    """`work(n)` until it is to stop; how often that was."""
    number = 0
    while not stop.is_set():
        await work(number)
        number += 1
        await asyncio.sleep(0.005)
    return number


async def fresh(url, word):
    client = Client(url)
    await client.says(word)
    client.close()


def load(url, clients, stop):
    """Coroutines: clients of every kind at once, each of which fails at the first byte that is not as it should be."""
    for i, one in enumerate(clients["says"]):
        yield again(lambda n, i=i, one=one: one.says(f"{i}-{n}"), stop)
    for i, one in enumerate(clients["streams"]):
        yield again(lambda n, i=i, one=one: one.streams(f"{i}-{n}"), stop)
    for i, one in enumerate(clients["uploads"]):
        yield again(lambda n, i=i, one=one: one.uploads(f"{i}-{n}", seconds=1.5), stop)
    for i, one in enumerate(clients["pipelines"]):
        yield again(lambda n, i=i, one=one: one.pipelines([f"{i}-{n}-{k}" for k in range(5)]), stop)
    yield again(lambda n: fresh(url, f"{n}"), stop)


@pytest.mark.parametrize("relays", [1, 2])
async def test_a_rolling_restart_under_load_fails_no_request_and_loses_no_record(tmp_path, relays):
    """Keep-alive clients, pipelines, new connections, uploads and streams that last longer than a replacement."""
    async with upstream() as server, running(server.url, tmp_path, "--relays", str(relays)) as sidecar:
        before = await health(sidecar)
        kinds = ("says", "streams", "uploads", "pipelines")
        clients = {kind: [Client(sidecar.url) for _ in range(4)] for kind in kinds}
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in load(sidecar.url, clients, stop)]
            await asyncio.sleep(0.5)
            os.kill(sidecar.process.pid, signal.SIGUSR2)
            await logged(sidecar, "SIGUSR2: all processes are replaced")
            stop.set()
        assert min(task.result() for task in tasks) > 0
        for client in [client for kind in kinds for client in clients[kind]]:
            client.close()
        after = await health(sidecar)
        assert not {*pids(before, "relay"), *pids(before, "observer")} & {
            *pids(after, "relay"),
            *pids(after, "observer"),
        }
        children = [p for p in after["processes"] if p["role"] != "supervisor" and "draining" not in p]
        assert [(process["replaced"], process["restarts"]) for process in children] == [(1, 0)] * (relays + 1)
        books = await balanced(sidecar)
        assert (books["dropped"], books["outcomes"]) == ({}, {"complete": books["started"]})


async def test_connections_in_the_queue_are_taken_over_by_the_successor(tmp_path):
    """The old relay stands still, so that all of them wait; it is told to go, and serves none of them."""
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        (old,) = pids(await health(sidecar), "relay")
        os.kill(old, signal.SIGSTOP)
        try:
            clients = [asyncio.create_task(fresh(sidecar.url, str(n))) for n in range(100)]
            await asyncio.sleep(0.1)
            os.kill(sidecar.process.pid, signal.SIGUSR2)
            await asyncio.gather(*clients)
        finally:
            os.kill(old, signal.SIGCONT)
        await logged(sidecar, "all processes are replaced")
        assert (await balanced(sidecar))["dropped"] == {}


async def test_an_idle_client_of_a_relay_that_leaves_gets_its_next_answer(tmp_path):
    """And is told by it to connect anew, which it does."""
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        client = Client(sidecar.url)
        await client.says("before")
        os.kill(sidecar.process.pid, signal.SIGUSR2)
        await logged(sidecar, "all processes are replaced")
        assert [p["role"] for p in (await health(sidecar))["processes"] if p.get("draining")] == ["relay"]
        first = (await client.connection())[1]
        await client.says("after")
        second = (await client.connection())[1]
        assert first is not second
        await client.says("there")
        client.close()


async def test_sigterm_to_a_relay_ends_none_of_its_streams(tmp_path):
    """As an orchestrator sends it to every process of a group: the relay goes when another is in its place."""
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        (old,) = pids(await health(sidecar), "relay")
        clients = [Client(sidecar.url) for _ in range(8)]
        server.may_end.clear()
        streams = [asyncio.create_task(client.streams(str(n))) for n, client in enumerate(clients)]

        async def streaming():
            return server.streaming == len(streams)

        await until(streaming, "the streams never began")
        os.kill(old, signal.SIGTERM)

        async def replaced():
            return pids(await health(sidecar), "relay") not in ([old], [None])

        await until(replaced, "no other relay came")
        await fresh(sidecar.url, "new")
        server.may_end.set()
        await asyncio.gather(*streams)
        for client in clients:
            client.close()
        books = await balanced(sidecar)
        assert (books["dropped"], books["outcomes"]) == ({}, {"complete": books["started"]})


async def test_sigterm_to_the_whole_group_is_an_orderly_end(tmp_path):
    """systemd sends it to every process of a unit at once."""
    async with upstream() as server, running(server.url, tmp_path, "--relays", "2") as sidecar:
        client = Client(sidecar.url)
        server.may_end.clear()
        stream = asyncio.create_task(client.streams("seed"))

        async def streaming():
            return server.streaming

        await until(streaming, "the stream never began")
        os.killpg(sidecar.process.pid, signal.SIGTERM)
        await logged(sidecar, "stopping")
        server.may_end.set()
        await stream
        client.close()
        assert await asyncio.to_thread(sidecar.process.stop) == 0
        assert [entry["event"] for entry in events(sidecar) if entry["level"] == "error"] == []


@linux
async def test_a_successor_that_does_not_come_up_leaves_the_old_relay_at_work(tmp_path):
    """The machine has no memory left for it, say, and it is killed as soon as it runs."""
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        (old,) = pids(await health(sidecar), "relay")
        broken = asyncio.create_task(kill_successors(sidecar.process.pid, "relay", [old]))
        os.kill(sidecar.process.pid, signal.SIGUSR2)
        line = await logged(sidecar, "cannot be replaced")
        broken.cancel()
        assert line["event"] == "relay 0 cannot be replaced: it ended while it started"
        assert pids(await health(sidecar), "relay") == [old]
        await fresh(sidecar.url, "still")


WATCHFUL = {"timeouts": {"watchdog": 3}}


@pytest.mark.parametrize("role", ["relay", "observer"])
async def test_a_process_that_stands_still_is_killed_and_started_again(tmp_path, role):
    async with upstream() as server, running(server.url, tmp_path, configuration=WATCHFUL) as sidecar:
        (old,) = pids(await health(sidecar), role)
        await fresh(sidecar.url, "before")
        os.kill(old, signal.SIGSTOP)
        line = await logged(sidecar, "does not move: killed")
        assert (line["event"].split()[0], line["pid"]) == (role, old)
        await fresh(sidecar.url, "after")

        async def back():
            return pids(await health(sidecar), role) not in ([old], [None])

        await until(back, f"the {role} never came back")
        assert (await balanced(sidecar))["outcomes"]["complete"] >= 2


def test_only_a_look_that_finds_no_heartbeat_counts_against_a_process():
    """Neither time in which nobody looked, nor a start that takes long."""
    block, file = Block.create()
    row = block.allocate(1)
    process = Incarnation([], row, sockets=[])
    assert [process.hangs(3) for _ in range(59)] == [False] * 59, "it may be loading"
    process._up.set()
    for beat in range(5):
        row["beat"] = beat + 1
        assert [process.hangs(3) for _ in range(3)] == [False] * 3, "it moves"
    assert process.hangs(3)
    row.add("beat")
    assert not process.hangs(3)
    file.close()


async def test_nobody_is_killed_because_the_whole_machine_stood_still(tmp_path):
    async with upstream() as server, running(server.url, tmp_path, configuration=WATCHFUL) as sidecar:
        before = await health(sidecar)
        os.killpg(sidecar.process.pid, signal.SIGSTOP)
        await asyncio.sleep(5)
        os.killpg(sidecar.process.pid, signal.SIGCONT)
        await asyncio.sleep(2)
        after = await health(sidecar)
        assert (pids(before, "relay"), pids(before, "observer")) == (
            pids(after, "relay"),
            pids(after, "observer"),
        )


async def test_a_relay_that_dies_while_its_successor_starts_leaves_one_in_its_place(tmp_path):
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        (old,) = pids(await health(sidecar), "relay")
        os.kill(sidecar.process.pid, signal.SIGUSR2)
        await logged(sidecar, "SIGUSR2: replacing")
        os.kill(old, signal.SIGKILL)
        await logged(sidecar, "SIGUSR2: all processes are replaced")
        facts = await health(sidecar)
        (relay,) = [process for process in facts["processes"] if process["role"] == "relay"]
        assert relay["pid"] not in (old, None)
        assert (relay["restarts"], relay["replaced"]) == (1, 1)
        await fresh(sidecar.url, "there")


@pytest.mark.parametrize(
    "signals", [[signal.SIGUSR2], [signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP]], ids=str
)
async def test_sigterm_in_the_middle_of_a_replacement_is_an_orderly_end(tmp_path, signals):
    async with upstream() as server, running(server.url, tmp_path, "--relays", "2") as sidecar:
        client = Client(sidecar.url)
        server.may_end.clear()
        stream = asyncio.create_task(client.streams("seed"))

        async def streaming():
            return server.streaming

        await until(streaming, "the stream never began")
        for number in signals:
            os.kill(sidecar.process.pid, number)
        await logged(sidecar, "SIGUSR2: replacing")
        os.kill(sidecar.process.pid, signal.SIGTERM)
        await logged(sidecar, "stopping")
        server.may_end.set()
        await stream
        client.close()
        assert await asyncio.to_thread(sidecar.process.stop) == 0
        assert [entry["event"] for entry in events(sidecar) if entry["level"] == "error"] == []


def test_the_first_restarts_are_prompt_and_further_ones_wait_for_seconds_at_most():
    assert [_pause(failures) for failures in range(12)] == [0, 0, 0, 0, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
