"""When the mock upstream's streams speak: one clock drives them all, so that many cost little."""

from __future__ import annotations

import asyncio
from typing import Protocol

from benchmarks.recorded import Recording

GATHERING = 0.5
"""Seconds from a replay's first request to its first step: streams that are to begin together come meanwhile."""


class Member(Protocol):
    """A stream."""

    def step(self) -> None:
        """Send the next token; leave the pace with the last."""


class Pace:
    """Calls `step` on every member once per interval; members are dealt evenly over its slots.

    A tick that comes late does not move the ones after it, so the mean rate holds whatever the load.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, slots: int) -> None:
        self._loop = loop
        self._slots: list[set[Member]] = [set() for _ in range(slots)]
        self._step = interval / slots
        self._next = 0.0
        self._turn = 0
        self._clock: asyncio.TimerHandle | None = None

    def join(self, member: Member) -> None:
        min(self._slots, key=len).add(member)
        if self._clock is None:
            self._next = self._loop.time() + self._step
            self._clock = self._loop.call_at(self._next, self._tick)

    def leave(self, member: Member) -> None:
        for slot in self._slots:
            slot.discard(member)

    def _tick(self) -> None:
        while self._next <= self._loop.time():
            for member in tuple(self._slots[self._turn]):
                member.step()
            self._turn = (self._turn + 1) % len(self._slots)
            self._next += self._step
        # An idle upstream takes no CPU from what is measured.
        self._clock = self._loop.call_at(self._next, self._tick) if any(self._slots) else None


class Replay:
    """Calls `step` on the copies of a recorded stream when it got a token, the copies of all in one burst.

    Streams begin together, `GATHERING` seconds after the first of them asked; one that asks later waits until
    the recording is over and begins again. A stream of more tokens than were recorded goes on with the next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, recording: Recording, speed: float = 1.0) -> None:
        self._loop = loop
        self._recording = recording
        self._speed = speed
        self._copies: list[dict[Member, None]] = [{} for _ in range(recording.streams)]
        self._waiting: dict[Member, None] = {}
        self._begin: float | None = None
        self._position = 0

    def join(self, member: Member) -> None:
        self._waiting[member] = None
        if self._begin is None:
            self._start()

    def leave(self, member: Member) -> None:
        for members in (self._waiting, *self._copies):
            members.pop(member, None)

    def _start(self) -> None:
        self._begin, self._position = self._loop.time() + GATHERING, 0
        self._loop.call_at(self._begin, self._tick)

    def _tick(self) -> None:
        assert self._begin is not None
        if self._position == 0:
            for number, member in enumerate(self._waiting):
                self._copies[number % len(self._copies)][member] = None
            self._waiting = {}
        steps = self._recording.steps
        speakers = steps[self._position].speakers
        for member in [member for speaker in speakers for member in self._copies[speaker]]:
            member.step()
        self._position += 1
        if self._position < len(steps):
            self._loop.call_at(self._begin + steps[self._position].at / self._speed, self._tick)
            return
        # Those that came in the meantime, and those with more tokens than were recorded.
        for members in self._copies:
            self._waiting |= members
            members.clear()
        self._begin = None
        if self._waiting:
            self._start()
