"""A sidecar of real processes in front of a simulated server, and what can be asked of it and of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from driftline.simulate.upstream import SimulatedUpstream
from tests.running import DEADLINE, health, pids, until
from tests.running import running as before
from tests.stack.components.sidecar import Sidecar

STREAMS = 4
CHAT = {
    "model": "simulated-8b",
    "messages": [{"role": "user", "content": "Describe the sea at length, please."}],
    "max_tokens": 60,
    "stream": True,
}


@contextlib.asynccontextmanager
async def served(directory: Path, *, time_scale: float = 4.0, **options: Any) -> AsyncIterator[Sidecar]:
    """A sidecar in front of a simulated server whose streams take a second or two."""
    async with (
        SimulatedUpstream(time_scale=time_scale, seed=7).serving() as upstream,
        before(upstream, directory, **options) as running,
    ):
        yield running


async def pid_of(running: Sidecar, role: str) -> int:
    async def alive() -> list[int | None]:
        return [pid for pid in pids(await health(running), role) if pid]

    return (await until(alive, f"no {role}"))[0]


async def stream(session: aiohttp.ClientSession, started: asyncio.Event | None = None) -> str:
    """'complete', or how it broke."""
    try:
        async with session.post("/v1/chat/completions", json=CHAT) as response:
            if started is not None:
                started.set()
            text = await response.text()
    except aiohttp.ClientError as error:
        return type(error).__name__
    return "complete" if text.endswith("data: [DONE]\n\n") else text


async def streams(session: aiohttp.ClientSession, count: int = STREAMS) -> list[asyncio.Task[str]]:
    """Streams that have begun."""
    events = [asyncio.Event() for _ in range(count)]
    tasks = [asyncio.create_task(stream(session, event)) for event in events]
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in events)), DEADLINE)
    return tasks


class Client:
    """A connection on which requests are written by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, running: Sidecar) -> Client:
        return cls(*await asyncio.open_connection(*running.url.removeprefix("http://").split(":")))

    def asks(self, path: str = "/v1/models") -> None:
        self._writer.write(b"GET %b HTTP/1.1\r\nHost: s\r\n\r\n" % path.encode())

    async def answered(self) -> tuple[int, str]:
        """Status, and the code of the error if it is one."""
        async with asyncio.timeout(DEADLINE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = json.loads(await self._reader.readexactly(length))
        return int(head[9:12]), body["error"]["code"] if "error" in body else ""

    def closes(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def clients(running: Sidecar, count: int) -> AsyncIterator[list[Client]]:
    """As many connections, made one after another."""
    made: list[Client] = []
    try:
        for _ in range(count):
            made.append(await Client.to(running))  # noqa: PERF401  # those before an error are closed
        yield made
    finally:
        for client in made:
            client.closes()


def said(running: Sidecar, text: str, *, role: str = "") -> list[str]:
    """Log lines with `text`."""
    lines = map(json.loads, running.process.log.read_text().splitlines())
    return [line["event"] for line in lines if text in line["event"] and role in line["role"]]


@contextlib.contextmanager
def limited(pid: int, soft: int, kind: int = resource.RLIMIT_NOFILE) -> Iterator[None]:
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


async def busy(pid: int) -> float:
    """Share of a core that a process takes, over a second."""

    def seconds() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, began = seconds(), time.monotonic()
    await asyncio.sleep(1.0)
    return (seconds() - before) / (time.monotonic() - began)


def children(parent: int, module: str) -> list[int]:
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in pids if module in Path(f"/proc/{pid}/cmdline").read_text()]
