"""What is done to whom, and when: all of it follows from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from chaos.ledger import Step

OBSERVER, UPSTREAM, SUPERVISOR = "observer", "upstream", "supervisor"
RELAYS = ("relay 0", "relay 1")
MORTAL = (OBSERVER, *RELAYS, UPSTREAM)

_EVERY = 4.0
"""Seconds between two disturbances, on average."""
_LEAD, _TAIL = 1.0, 2.0
"""Seconds without any: at the beginning, and at the end."""

Disturbance = Callable[[Random, float], list[Step]]


def schedule(seed: int, seconds: float) -> list[Step]:
    """Every kind of disturbance once in random order, then more of them at random, over `seconds`.

    They may overlap: what is killed may be paused at the time, and what is paused may be gone when it is to go on.
    """
    rng = Random(seed)
    kinds = [*KINDS]
    rng.shuffle(kinds)
    count = max(len(kinds), round((seconds - _LEAD - _TAIL) / _EVERY))
    kinds += rng.choices(KINDS, k=count - len(kinds))
    room = (seconds - _LEAD - _TAIL) / count
    steps: list[Step] = []
    for place, kind in enumerate(kinds):
        steps += kind(rng, _LEAD + room * (place + rng.random()))
    latest = seconds - _TAIL
    return sorted((Step(min(step.at, latest), step.do, step.to) for step in steps), key=lambda step: step.at)


def kill(to: str, rng: Random, at: float) -> list[Step]:
    """`kill -9`; the upstream is started again after a while, the others by their supervisor."""
    steps = [Step(at, "kill", to)]
    if to == UPSTREAM:
        steps.append(Step(at + rng.uniform(0.05, 2.0), "start", to))
    return steps


def kill_observer(rng: Random, at: float) -> list[Step]:
    return kill(OBSERVER, rng, at)


def kill_relay(rng: Random, at: float) -> list[Step]:
    return kill(rng.choice(RELAYS), rng, at)


def kill_upstream(rng: Random, at: float) -> list[Step]:
    return kill(UPSTREAM, rng, at)


def kill_two(rng: Random, at: float) -> list[Step]:
    """At once."""
    return [step for to in rng.sample(MORTAL, 2) for step in kill(to, rng, at)]


def kill_all(rng: Random, at: float) -> list[Step]:
    return [step for to in MORTAL for step in kill(to, rng, at)]


def kill_again(rng: Random, at: float) -> list[Step]:
    """The successor too, while it starts."""
    to = rng.choice((OBSERVER, *RELAYS))
    return kill(to, rng, at) + kill(to, rng, at + rng.uniform(0.15, 1.0))


def pause(to: str, rng: Random, at: float) -> list[Step]:
    return [Step(at, "pause", to), Step(at + rng.uniform(0.5, 4.0), "resume", to)]


def pause_observer(rng: Random, at: float) -> list[Step]:
    return pause(OBSERVER, rng, at)


def pause_upstream(rng: Random, at: float) -> list[Step]:
    return pause(UPSTREAM, rng, at)


def pause_relay(rng: Random, at: float) -> list[Step]:
    return pause(rng.choice(RELAYS), rng, at)


def kill_a_paused_one(rng: Random, at: float) -> list[Step]:
    """What has piled up before it is lost with it."""
    to = rng.choice(MORTAL)
    return [Step(at, "pause", to), *kill(to, rng, at + rng.uniform(0.3, 2.0))]


def kill_relay_behind_a_paused_observer(rng: Random, at: float) -> list[Step]:
    """Its last records wait in the channel, unread, without it."""
    begin, end = pause(OBSERVER, rng, at)
    return [begin, *kill_relay(rng, rng.uniform(at, end.at)), end]


def hang(rng: Random, at: float) -> list[Step]:
    """Until the watchdog kills it."""
    return [Step(at, "hang", rng.choice((OBSERVER, *RELAYS)))]


def dismiss(rng: Random, at: float) -> list[Step]:
    return [Step(at, "dismiss", rng.choice((OBSERVER, *RELAYS)))]


def reload(rng: Random, at: float) -> list[Step]:
    return [Step(at, "reload", SUPERVISOR)]


def roll(rng: Random, at: float) -> list[Step]:
    """A rolling restart of the relays."""
    return [Step(at, "roll", SUPERVISOR)]


KINDS: tuple[Disturbance, ...] = (
    kill_observer,
    kill_relay,
    kill_upstream,
    kill_two,
    kill_all,
    kill_again,
    pause_observer,
    pause_upstream,
    pause_relay,
    kill_a_paused_one,
    kill_relay_behind_a_paused_observer,
    hang,
    dismiss,
    reload,
    roll,
)
