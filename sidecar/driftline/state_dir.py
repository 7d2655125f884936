"""The state directory belongs to one sidecar at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import IO


def claim(path: Path) -> IO[str]:
    """Make `path` ours, creating it if need be; keep what is returned open as long as it is to be.

    Raises `OSError` whose text names the directory, the problem and the fix. The lock is the kernel's, so it
    ends with the process, however that ends.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise OSError(
            error.errno, f"state_dir {path} cannot be written: {error.strerror}; choose another one"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        message = (
            f"state_dir {path} is in use by process {holder}: give this sidecar one of its own (--state-dir)"
        )
        raise OSError(errno.EAGAIN, message) from None
    with contextlib.suppress(OSError):  # a full disk; the number is for people, the lock holds without it
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())
    return lock
