"""One export request to one receiver, and again for as long as that may help.

https://opentelemetry.io/docs/specs/otlp/, "OTLP/HTTP Response", "OTLP/gRPC Response", "Failures".
"""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import NamedTuple, Protocol

from driftline.otlp.wire import fields

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0


class Outcome(NamedTuple):
    """What became of a request."""

    delivered: bool
    retryable: bool = False
    """The same request may be taken later."""
    reason: str = ""
    """Why it was not delivered, or not whole; for a person."""
    after: float | None = None
    """Seconds the receiver asks to be left alone."""
    rejected: int = 0
    """Items of a delivered request that the receiver did not take, and never will."""


class Sender(Protocol):
    """A way to one receiver."""

    async def send(self, request: bytes, within: float) -> Outcome:
        """Try once to deliver an export request, for at most `within` seconds. Raises nothing but bugs."""

    async def close(self) -> None: ...


async def deliver(sender: Sender, request: bytes, within: float) -> Outcome:
    """The last outcome, of tries with growing pauses between them, in `within` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    for attempt in count():
        outcome = await sender.send(request, deadline - loop.time())
        if outcome.delivered or not outcome.retryable:
            break
        pause = outcome.after
        if pause is None:
            # Jitter: receivers that come back should not meet all of their senders at once.
            pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.8, 1.2)
        if loop.time() + pause >= deadline:
            break
        await asyncio.sleep(pause)
    return outcome


def accepted(response: bytes) -> Outcome:
    """What an `Export…ServiceResponse` says: the receiver took all, or how many it rejected and why.

    One that cannot be read is taken for all: the status said so.
    """
    rejected, reason = 0, ""
    try:
        for field, partial in fields(response):
            if field == 1 and isinstance(partial, bytes):
                for inner, value in fields(partial):
                    if inner == 1 and isinstance(value, int):
                        rejected = value
                    elif inner == 2 and isinstance(value, bytes):
                        reason = value.decode("utf-8", "replace")
    except ValueError:
        return Outcome(delivered=True)
    return Outcome(delivered=True, rejected=rejected, reason=reason)
