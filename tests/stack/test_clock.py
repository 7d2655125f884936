"""A wall clock that jumps: a machine that was asleep or moved, or that hears from NTP for the first time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import STREAMS, Sidecar, before, clients, served, streams
from tests.running import balanced, until
from tests.stack.components import required
from tests.stack.components.spans import decode
from tests.tracing.receivers import http_receiver


class Clock:
    """The wall clock of a process, to be set: libfaketime reads the offset from a file at each look."""

    def __init__(self, directory: Path) -> None:
        faketime = required.command("faketime")
        wrapped = [faketime, "-f", "+0", "printenv", "LD_PRELOAD"]
        library = subprocess.run(wrapped, capture_output=True, text=True, check=True).stdout.strip()
        self._file = directory / "offset"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name in older versions
        }

    def set(self, offset: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(offset)
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


async def test_a_clock_that_jumps_changes_nothing_but_the_time_of_day(clock: Clock, tmp_path: Path) -> None:
    """Forward, back, and by a step of NTP while streams run: durations, timeouts, ticks and books stay right."""
    timeouts = {"first_byte": 20, "idle": 20, "total": 60, "keep_alive": 60}
    longest = 0.0
    async with (
        http_receiver() as backend,
        served(
            tmp_path,
            time_scale=2.0,
            environment=clock.environment | {"OTEL_BSP_SCHEDULE_DELAY": "50"},
            configuration={"exporters": [{"preset": "otlp", "endpoint": backend.url}], "timeouts": timeouts},
        ) as running,
        aiohttp.ClientSession(running.url) as session,
    ):
        steps = {"+1h": 3600, "-1h": -3600, "+0": 0, "+2s": 2}
        for offset, seconds in steps.items():
            began = time.monotonic()
            begun = await streams(session)
            clock.set(offset)
            assert [await end for end in begun] == ["complete"] * STREAMS
            longest = max(longest, time.monotonic() - began)
            await drift_clock_goes_on(running, seconds)
        books = await balanced(running)
        assert (books["dropped"], books["outcomes"]) == ({}, {"complete": books["started"]})
    spans = decode(ExportTraceServiceRequest(resource_spans=backend.resource_spans))
    assert len(spans) == len(steps) * STREAMS
    lasted = [(span.end - span.start) / 1e9 for span in spans]
    assert 0.1 < min(lasted) <= max(lasted) <= longest
    lines = [json.loads(line) for line in running.process.log.read_text().splitlines()]
    assert [line["event"] for line in lines if line["level"] != "info"] == []


async def drift_clock_goes_on(running: Sidecar, offset: float) -> None:
    """It is a second or so behind the wall clock, and moves."""
    seen = set()

    async def twice() -> bool:
        now = (await asyncio.to_thread(running.api, "drift"))["clock"]
        if abs(now - time.time() - offset) < 5.0 - 4.0 * (abs(offset) < 5.0):
            seen.add(now)
        return len(seen) == 2

    await until(twice, f"the drift clock does not follow by {offset} s")


@asynccontextmanager
async def silent_upstream() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Healthy, and answers nothing; the event is set by the first request."""
    asked = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /health"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            asked.set()
            await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_a_timeout_comes_when_it_should_although_the_clock_jumps(
    clock: Clock, tmp_path: Path, offset: str
) -> None:
    """A silent upstream is given up after its time: not at once, and not an hour later."""
    timeouts = {"first_byte": 1.0}
    async with (
        silent_upstream() as (upstream, asked),
        before(
            upstream, tmp_path, environment=clock.environment, configuration={"timeouts": timeouts}
        ) as running,
        clients(running, 1) as [client],
    ):
        began = time.monotonic()
        client.asks()
        await asked.wait()
        clock.set(offset)
        assert await client.answered() == (504, "timeout")
        assert time.monotonic() - began > 1.0
