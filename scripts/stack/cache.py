"""Where the stack's components are kept, and how one gets there: whole, or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(
    os.environ.get("DRIFTLINE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftline"
)


class CannotInstallError(Exception):
    """This machine lacks something that we do not install; the message says what, and how to get it."""


def place(name: str, *inputs: Path | str) -> Path:
    """The directory of what is made from `inputs` (files by content): another input, another directory."""
    digest = hashlib.sha256()
    for item in inputs:
        digest.update(item.read_bytes() if isinstance(item, Path) else item.encode())
    return ROOT / f"{name}-{digest.hexdigest()[:12]}"


def make(directory: Path, build: Callable[[Path], None]) -> None:
    """Have `build` fill a directory beside `directory`, then rename it; do nothing where `directory` exists.

    Whoever sees `directory` sees all of it, whatever interrupts the build. Downloads are resumed by the
    caches of uv and Go.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    with _alone(directory.name):
        if directory.exists():
            return
        partial = ROOT / f".{directory.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        build(partial)
        partial.rename(directory)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Wait for another build of the same thing; the kernel lets go of the lock if its holder is killed."""
    with (ROOT / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
