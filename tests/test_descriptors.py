"""A process that has no file descriptor left: traffic goes on, and it is said."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from driftline import descriptors
from tests.processes import STREAMS, busy, children, clients, limited, pid_of, said, served, stream, streams
from tests.running import balanced, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2) and /proc are Linux's")
NOTHING_NEW = 3
"""A limit under which a process can open no file, whatever it has open."""


def test_what_is_left_is_known_and_nothing_of_it_is_kept():
    used = len(list(Path("/proc/self/fd").iterdir()))
    assert descriptors.left(100)
    with limited(os.getpid(), NOTHING_NEW):
        assert not descriptors.left()
    assert len(list(Path("/proc/self/fd").iterdir())) == used


def test_every_client_has_room_for_its_upstream_too():
    with limited(os.getpid(), 1048):
        assert descriptors.room() == 500
    with limited(os.getpid(), 10):
        assert descriptors.room() == 1


def test_whose_fault_a_failed_connection_is():
    """A refused connection is the other side's; a socket that cannot be had is ours."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(OSError) as refused:
            socket.create_connection(bound.getsockname())
    with limited(os.getpid(), NOTHING_NEW), pytest.raises(OSError) as nothing_left:
        socket.socket()
    assert (refused.value.errno, nothing_left.value.errno) == (errno.ECONNREFUSED, errno.EMFILE)
    assert [descriptors.ours(error.value) for error in (refused, nothing_left)] == [False, True]


async def test_more_clients_than_descriptors_are_told_and_cost_the_others_nothing(tmp_path):
    """Each client that is taken on has a descriptor for its upstream too; the next ones are answered 503.

    What counts is the hard limit: all processes have raised theirs to it.
    """
    async with (
        served(tmp_path, before=("prlimit", "--nofile=64:112")) as running,
        aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(force_close=True)) as session,
    ):
        for role in ("supervisor", "relay", "observer"):
            pid = await pid_of(running, role)
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (112, 112), role
        begun = await streams(session)
        room = (112 - 48) // 2 - STREAMS
        async with clients(running, room + 10) as crowd, clients(running, 1) as [probe]:
            for client in crowd:
                client.asks()
            answers = [await client.answered() for client in crowd]
            assert answers == [(200, "")] * room + [(503, "too_many_connections")] * 10
            for path in ("/-/live", "/-/ready"):
                probe.asks(path)
                assert await probe.answered() == (200, "")
            assert [await end for end in begun] == ["complete"] * STREAMS

        async def room_again():
            return said(running, "room for clients again")

        await until(room_again, "no room again")
        assert await stream(session) == "complete"
        assert len(said(running, "file descriptors")) == 1
        assert (await balanced(running))["outcomes"]["bad_request"] == 10


async def test_a_relay_without_descriptors_goes_on_with_what_it_has(tmp_path):
    """New clients wait in the queue, at no cost; those it has are served, or told what is missing."""
    async with (
        served(tmp_path) as running,
        aiohttp.ClientSession(running.url) as session,
        clients(running, 1) as [early],
    ):
        relay = await pid_of(running, "relay")
        early.asks("/-/live")
        assert await early.answered() == (200, "")
        begun = await streams(session)
        with limited(relay, NOTHING_NEW):
            async with clients(running, 30) as late:
                for client in late:
                    client.asks()
                assert await busy(relay) < 0.25
                early.asks()
                assert await early.answered() == (503, "sidecar_exhausted")
                assert [await end for end in begun] == ["complete"] * STREAMS
                assert await busy(relay) < 0.25  # a health check falls into this time
                resource.prlimit(relay, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
                assert {await client.answered() for client in late} == {(200, "")}
        assert said(running, "is down") == []
        assert len(said(running, "no file descriptors are left")) == 1
        books = await balanced(running)
        assert books["outcomes"] == {"bad_request": 1, "complete": books["started"] - 1}


async def test_an_observer_without_descriptors_costs_traffic_nothing(tmp_path):
    """Not even when a relay starts meanwhile and finds nobody to send its records to."""
    async with served(tmp_path) as running, aiohttp.ClientSession(running.url) as session:
        observer, first = await pid_of(running, "observer"), await pid_of(running, "relay")
        # Room up to the one that libuv keeps to accept and close with; what comes later, like a relay's line, has none.
        files = {int(file.name): file.readlink() for file in Path(f"/proc/{observer}/fd").iterdir()}
        spare = max(number for number, target in files.items() if target == Path(os.devnull))
        with limited(observer, spare + 1):
            assert [await end for end in await streams(session)] == ["complete"] * STREAMS
            os.kill(first, signal.SIGKILL)

            async def serving():
                return await stream(session) == "complete"

            await until(serving, "no relay came back")
            relay = next(pid for pid in children(running.process.pid, "driftline.relay") if pid != first)
            assert [await busy(pid) < 0.25 for pid in (relay, observer)] == [True, True]
        assert await stream(session) == "complete"
        books = await balanced(running)
        assert books["outcomes"]["complete"] >= STREAMS + 2
        assert await pid_of(running, "observer") == observer
    assert "Traceback" not in running.process.log.read_text()
