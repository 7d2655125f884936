"""A sidecar that runs, and what tests of its processes ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.stack.components.http import get_json
from tests.stack.components.sidecar import Sidecar, sidecar

T = TypeVar("T")
DEADLINE = 30.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@contextlib.asynccontextmanager
async def running(
    upstream: str | None, directory: Path, *arguments: str, **options: Any
) -> AsyncIterator[Sidecar]:
    """A sidecar before `upstream`, started and ended beside the test's loop."""
    context = sidecar(upstream, directory=directory, arguments=arguments, **options)
    started = await asyncio.to_thread(context.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def until(check: Callable[[], Awaitable[T]], what: str) -> T:
    """The first true answer of `check`."""
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(OSError):
            if answer := await check():
                return answer
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def health(sidecar: Sidecar) -> dict[str, Any]:
    """Waits for an observer that is still loading."""

    async def answered() -> Any:
        return await asyncio.to_thread(get_json, f"{sidecar.admin}/healthz")

    return await until(answered, "the admin port does not answer")


def pids(facts: dict[str, Any], role: str) -> list[int | None]:
    """Of those that have a place; None where that is empty."""
    return [
        process["pid"]
        for process in facts["processes"]
        if process["role"] == role and "draining" not in process
    ]


async def balanced(sidecar: Sidecar) -> dict[str, Any]:
    """The books, once every request is accounted for."""

    async def check() -> Any:
        books = (await health(sidecar))["requests"]
        closed = books["started"] == books["observed"] + sum(books["dropped"].values())
        return books if closed and not books["active"] else None

    return await until(check, "the books never balanced")


def events(sidecar: Sidecar) -> list[dict[str, Any]]:
    """What it has logged."""
    return [json.loads(line) for line in sidecar.process.log.read_text().splitlines() if line.startswith("{")]


async def logged(sidecar: Sidecar, text: str, *, times: int = 1) -> dict[str, Any]:
    """The last line with `text`, once it is there that often."""

    async def found() -> list[dict[str, Any]]:
        lines = [entry for entry in events(sidecar) if text in entry["event"]]
        return lines if len(lines) >= times else []

    try:
        return (await until(found, text))[-1]
    except AssertionError:
        raise AssertionError(f"never logged: {text}\n{sidecar.process.tail()}") from None


async def kill_successors(supervisor: int, role: str, spared: list[int | None]) -> None:
    """Every process of that role that is none of `spared`, as soon as it exists."""
    while True:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                ours = parent == supervisor and f"driftline.{role}" in (folder / "cmdline").read_text()
            except OSError:
                continue
            if ours and int(folder.name) not in spared:
                os.kill(int(folder.name), signal.SIGKILL)
        await asyncio.sleep(0.005)
