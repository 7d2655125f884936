"""File descriptors: a stream takes two, and a process has only so many."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

_MOST = 1 << 20
"""More than a process can use; some container runtimes allow a thousand times that."""
_MOST_ON_MACOS = 10_240
"""`OPEN_MAX`: what setrlimit(2) takes there although it says that there is no limit."""
_RESERVED = 48
"""For all that is neither a client nor its upstream: listener, channel, counters, logs, health checks, look-ups."""
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def raise_limit() -> None:
    """Take as many as the hard limit allows; child processes inherit it.

    The soft limit is 1024 for the sake of programs that use select(2), which cannot wait for more; the others are
    expected to raise it (http://0pointer.net/blog/file-descriptor-limits.html), as Go programs do since 1.19.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_MOST, _MOST_ON_MACOS):
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft in (resource.RLIM_INFINITY, most) or soft > most:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


def room() -> int:
    """How many clients can be served at once, each with an upstream connection of its own."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max((soft - _RESERVED) // 2, 1)


def left(count: int = 1) -> bool:
    """Whether `count` more files could be opened."""
    opened: list[int] = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401  # those before the error are closed
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def ours(error: Exception) -> bool:
    """Whether a connection failed for want of something on this machine: nothing is wrong with the other side."""
    return isinstance(error, OSError) and error.errno in _OURS
