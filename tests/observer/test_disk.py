"""A disk that is full, refuses or hangs: calls are counted and answered, and no file is left half."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from driftline.drift.settings import DriftSettings
from driftline.drift.store import Store
from driftline.observer.watching import DriftWatch
from tests.processes import DEADLINE, STREAMS, limited, said, served, streams
from tests.running import balanced
from tests.tracing.calls import chat

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2) and tmpfs are Linux's")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return filler


def files(state: Path) -> set[str]:
    return {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}


async def test_a_full_disk_costs_traffic_nothing_and_leaves_no_half_file(tmp_path, small_disk):
    """The sidecar serves, starts and stops on it, says once that it cannot save, and saves when there is room."""
    state = small_disk / "state"
    snapshot = state / "windows" / "drift.snapshot"
    saved = []
    for full in (True, False, True):
        filler = fill(small_disk) if full else None
        async with served(tmp_path, configuration={"state_dir": str(state)}, time_scale=0.1) as running:
            async with aiohttp.ClientSession(running.url) as session:
                assert [await end for end in await streams(session)] == ["complete"] * STREAMS
            await balanced(running)
            assert await asyncio.to_thread(running.process.stop) == 0
            problems = said(running, "cannot be saved")
            running.process.log.unlink()
        assert ["No space left on device" in problem for problem in problems] == [True] * full
        if filler is not None:
            filler.unlink()
        saved.append(snapshot.read_bytes() if snapshot.exists() else None)
        assert files(state) <= {"lock", "windows/drift.snapshot"}
    assert saved == [None, saved[1], saved[1]]
    assert saved[1]


def test_state_that_cannot_be_written_is_said_once_and_saved_when_it_can(tmp_path, caplog):
    """Here a limit on the size of files (`EFBIG`), in the middle of a write."""
    caplog.set_level("INFO")
    store = Store(tmp_path)
    watch = DriftWatch(DriftSettings(), store, clock := 1_752_384_000.0)
    snapshot = tmp_path / "windows" / "drift.snapshot"

    def saves(now: float) -> None:
        watch.observe(chat())
        watch.tick(now)
        watch._writing.result(DEADLINE)

    saves(clock + 20)
    whole = snapshot.read_bytes()
    with limited(os.getpid(), len(whole) // 2, resource.RLIMIT_FSIZE):
        for seconds in (40, 60, 80):
            saves(clock + seconds)
        assert (snapshot.read_bytes(), files(tmp_path)) == (whole, {"windows/drift.snapshot"})
    saves(clock + 100)
    assert snapshot.read_bytes() != whole
    watch.stop()
    ours = [record.getMessage() for record in caplog.records if record.name == "driftline.observer.watching"]
    assert len(ours) == 2
    assert "drift state cannot be saved: [Errno 27]" in ours[0]
    assert ours[1] == "drift state is saved again"


def test_a_disk_that_hangs_holds_up_no_call_and_no_answer(tmp_path, monkeypatch):
    """A write that takes as long as it likes: calls are counted, and one write waits rather than one per tick."""
    hung, free = threading.Event(), threading.Event()
    written = []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        hung.set()
        assert free.wait(DEADLINE), "the loop waited for the disk"

    monkeypatch.setattr(os, "fsync", fsync)
    watch = DriftWatch(DriftSettings(), Store(tmp_path), clock := 1_752_384_000.0)
    watch.observe(chat())
    watch.tick(clock + 20)
    assert hung.wait(DEADLINE)
    for seconds in range(21, 600):
        watch.observe(chat())
        watch.tick(clock + seconds)
        assert watch.series() is not None
    assert len(written) == 1
    free.set()
    watch.stop()
    restored = Store(tmp_path).load(DriftSettings(), clock + 600)
    assert restored.sequence == watch.detector.sequence
