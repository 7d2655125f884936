"""The cache of `make stack`: what is in it is whole, made once, and another input makes another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.stack import cache

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    return tmp_path


def test_another_input_is_another_place(root: Path, tmp_path: Path) -> None:
    """Changed versions never meet the directory of the old ones."""
    lock = tmp_path / "lock"
    lock.write_text("torch==1")
    first = cache.place("vllm", lock, "3.11")
    assert first == cache.place("vllm", lock, "3.11")
    assert first != cache.place("vllm", lock, "3.12")
    lock.write_text("torch==2")
    assert first != cache.place("vllm", lock, "3.11")


def test_a_build_that_fails_leaves_nothing_and_the_next_one_starts_clean(root: Path) -> None:
    """A directory with the name of a component is always whole."""
    directory = cache.place("thing", "1")

    def fails(partial: Path) -> None:
        (partial / "half").write_text("")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        cache.make(directory, fails)
    assert not directory.exists()
    cache.make(directory, lambda partial: (partial / "whole").touch())
    assert [path.name for path in directory.iterdir()] == ["whole"]


def test_a_killed_build_holds_up_nobody(root: Path) -> None:
    """kill -9 in the middle: the lock is free and the leftovers are removed."""
    directory = cache.place("thing", "2")
    program = (
        "import sys, time; from pathlib import Path; from scripts.stack import cache\n"
        "def build(partial):\n"
        "    (partial / 'half').touch(); print('building', flush=True); time.sleep(60)\n"
        f"cache.make(Path({str(directory)!r}), build)"
    )
    environment = os.environ | {"DRIFTLINE_CACHE": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "building\n"
        killed.send_signal(signal.SIGKILL)
    cache.make(directory, lambda partial: (partial / "whole").touch())
    assert [path.name for path in directory.iterdir()] == ["whole"]


def test_two_builds_at_once_are_one(root: Path) -> None:
    """The second waits for the first, and finds its work done."""
    directory = cache.place("thing", "3")
    builds: list[Path] = []
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(cache.make, directory, builds.append) for _ in range(4)]:
            done.result()
    assert len(builds) == 1
    assert directory.is_dir()
