"""Synthetic clients: profiles of traffic, and the shifts that can come over them.

A request is drawn as an `Intent`, a shift changes the intent, and only then is it written as an HTTP request.
So the same seed gives the same clients, asking the same at the same moments, with and without a shift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from math import pi, sin
from random import Random
from typing import Any, Literal

import msgspec

from driftline.simulate import text
from driftline.simulate.lengths import CODE_PROMPTS, CONVERSATION_PROMPTS, Lengths
from driftline.simulate.replies import Steering

Kind = Literal["chat", "json", "tools", "completion"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A mix of requests."""

    about: str
    kinds: dict[Kind, float]
    """Weights."""
    prompts: Lengths
    max_tokens: dict[int, float]
    """Weights of the limits that clients set; a low one cuts some replies short."""
    streaming: float
    """Share of the requests that ask for a stream."""
    leaving: float = 0.005
    """Share of the streams whose client leaves after their first content."""


PROFILES = {
    "chat": Profile(
        about="conversations, some of which ask for JSON; lengths of a public conversation trace",
        kinds={"chat": 0.85, "json": 0.15},
        prompts=CONVERSATION_PROMPTS,
        max_tokens={256: 0.1, 1024: 0.9},
        streaming=0.6,
    ),
    "code": Profile(
        about="code completions: long prompts, short replies; lengths of a public code trace",
        kinds={"completion": 1},
        prompts=CODE_PROMPTS,
        max_tokens={64: 0.5, 256: 0.5},
        streaming=0.3,
    ),
    "mixed": Profile(
        about="conversations, JSON, tool calls and code completions in one stream",
        kinds={"chat": 0.6, "json": 0.15, "tools": 0.1, "completion": 0.15},
        prompts=CONVERSATION_PROMPTS,
        max_tokens={256: 0.1, 1024: 0.9},
        streaming=0.5,
    ),
}


class Intent(msgspec.Struct, kw_only=True):
    """What a client is about to ask."""

    team: str
    session: str
    kind: Kind
    prompt_tokens: int
    turns: int
    """Earlier questions, with their answers, that come along."""
    max_tokens: int
    stream: bool
    wants_usage: bool
    leaves: bool
    language: str = "en"
    steering: Steering = ""


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    about: str
    size: float
    """Unless another is asked for."""
    apply: Callable[[Intent, float, Random], None]
    """Changes an intent, by the size."""


def _longer_prompts(intent: Intent, factor: float, _: Random) -> None:
    intent.prompt_tokens = round(intent.prompt_tokens * factor)


def _steered(steering: Steering, kinds: Sequence[Kind]) -> Callable[[Intent, float, Random], None]:
    def apply(intent: Intent, share: float, rng: Random) -> None:
        if intent.kind in kinds and rng.random() < share:
            intent.steering = steering

    return apply


def _language(intent: Intent, share: float, rng: Random) -> None:
    if intent.kind != "completion" and rng.random() < share:
        intent.language = rng.choice([name for name in text.LANGUAGES if name != "en"])


def _truncated(intent: Intent, share: float, rng: Random) -> None:
    if rng.random() < share:
        intent.max_tokens = min(intent.max_tokens, 48)


SHIFTS = {
    "longer_prompts": Shift(about="prompts longer by this factor", size=2.0, apply=_longer_prompts),
    "refusals": Shift(
        about="this share of chats is declined",
        size=0.25,
        apply=_steered("refuse", ["chat", "json", "tools"]),
    ),
    "broken_json": Shift(
        about="this share of JSON replies and tool calls is broken",
        size=0.3,
        apply=_steered("break-json", ["json", "tools"]),
    ),
    "language": Shift(about="this share of chats is Spanish or German", size=0.5, apply=_language),
    "truncated": Shift(about="this share of replies is cut at 48 tokens", size=0.5, apply=_truncated),
    "errors": Shift(
        about="this share of requests fails",
        size=0.1,
        apply=_steered("fail", ["chat", "json", "tools", "completion"]),
    ),
}


def known_shift(word: str) -> tuple[Shift, float]:
    """The shift and the size in `NAME` or `NAME=SIZE`. Raises `ValueError` for anything else.

    >>> known_shift("longer_prompts=1.5")[1]
    1.5
    """
    name, _, written = word.partition("=")
    shift = SHIFTS.get(name)
    if shift is None:
        raise ValueError(f"{name!r} is not a shift; there are {', '.join(SHIFTS)}")
    try:
        size = float(written) if written else shift.size
    except ValueError:
        raise ValueError(f"{written!r} is not a size for {name}; it is a number ({shift.about})") from None
    highest = 100.0 if name == "longer_prompts" else 1.0
    if not 0 < size <= highest:
        raise ValueError(f"{name}={written}: its size is above 0 and at most {highest:g} ({shift.about})")
    return shift, size


class Request(msgspec.Struct, frozen=True):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    leaves: bool
    """The client hangs up after the first content."""


TEAMS = {
    "support": "You answer customers of a parcel service. Be brief and kind, and never promise a date.",
    "search": "You answer a question about shipments from the passages given. Quote none of them.",
    "billing": "You explain invoices. Amounts are in euros. Say which line of the invoice you mean.",
    "research": "You summarise long notes for analysts, most important first.",
}
_TEAM_WEIGHTS = (0.45, 0.25, 0.2, 0.1)

_TICKET = {
    "type": "object",
    "properties": {
        "category": {"enum": ["delivery", "billing", "returns", "account"]},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
        "summary": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "resolved": {"type": "boolean"},
    },
    "required": ["category", "priority", "summary", "tags", "resolved"],
    "additionalProperties": False,
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "track_parcel",
        "description": "Where a parcel is.",
        "parameters": {
            "type": "object",
            "properties": {"parcel": {"type": "integer"}, "carrier": {"enum": ["north", "south", "air"]}},
            "required": ["parcel", "carrier"],
        },
    },
}

_ASK: dict[Kind, str] = {
    "chat": "What should we do about this case? ",
    "json": "Fill in the ticket as a JSON object. ",
    "tools": "Where is the parcel now? ",
    "completion": "",
}
_STEER_BY_WORDS: dict[Steering, str] = {
    "refuse": "Decline to answer this, in one polite sentence. ",
    "break-json": "Put the JSON in a fenced block, with a remark behind it. ",
}


class Workload:
    """An endless supply of requests. `shifts` may be changed between two of them.

    `scale` multiplies every length (for a model with a short context), `most_tokens` bounds the replies.
    """

    def __init__(
        self, profile: Profile, *, model: str, seed: int = 0, scale: float = 1.0, most_tokens: int = 0
    ) -> None:
        self.shifts: list[tuple[Shift, float]] = []
        self._profile = profile
        self._model = model
        self._seed = seed
        self._scale = scale
        self._most_tokens = most_tokens
        self._drawn = 0

    def next(self) -> Request:
        rng = Random(f"{self._seed}:{self._drawn}")
        shift_rng = Random(f"{self._seed}:{self._drawn}:shift")
        self._drawn += 1
        intent = self._intent(rng)
        for shift, size in self.shifts:
            shift.apply(intent, size, shift_rng)
        return self._written(intent, rng)

    def _intent(self, rng: Random) -> Intent:
        profile = self._profile
        (team,) = rng.choices(list(TEAMS), _TEAM_WEIGHTS)
        (kind,) = rng.choices(list(profile.kinds), list(profile.kinds.values()))
        (limit,) = rng.choices(list(profile.max_tokens), list(profile.max_tokens.values()))
        limit = max(1, round(limit * self._scale))
        stream = rng.random() < profile.streaming
        return Intent(
            team=team,
            session=f"{team}-{rng.randrange(200)}",
            kind=kind,
            prompt_tokens=max(8, round(profile.prompts.draw(rng) * self._scale)),
            turns=min(6, int(rng.expovariate(0.7))) if kind == "chat" else 0,
            max_tokens=min(limit, self._most_tokens) if self._most_tokens else limit,
            stream=stream,
            wants_usage=stream and rng.random() < 0.5,
            leaves=stream and rng.random() < profile.leaving,
        )

    def _written(self, intent: Intent, rng: Random) -> Request:
        headers = {"x-driftline-team": intent.team, "x-driftline-session": intent.session}
        if intent.steering:
            headers["x-simulate"] = intent.steering
        body: dict[str, Any] = {"model": self._model}
        if intent.kind == "completion":
            path = "/v1/completions"
            body["prompt"] = "".join(text.passage(intent.prompt_tokens, "code", rng))
        else:
            path = "/v1/chat/completions"
            body["messages"] = _messages(intent, rng)
        body["max_tokens"] = intent.max_tokens
        if intent.kind == "json":
            schema = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": _TICKET}}
            body["response_format"] = schema if rng.random() < 0.5 else {"type": "json_object"}
        if intent.kind == "tools":
            body["tools"] = [_TOOL]
        if intent.stream:
            body["stream"] = True
        if intent.wants_usage:
            body["stream_options"] = {"include_usage": True}
        return Request(path, headers, body, intent.leaves)


def _messages(intent: Intent, rng: Random) -> list[dict[str, str]]:
    """System prompt, earlier turns and the question: about `intent.prompt_tokens` together."""
    ask = _ASK[intent.kind] + _STEER_BY_WORDS.get(intent.steering, "")
    system = TEAMS[intent.team]
    left = intent.prompt_tokens - len(text.tokens(ask))
    messages = []
    if left > 64:
        messages.append({"role": "system", "content": system})
        left -= len(text.tokens(system))
    parts = 2 * intent.turns + 1
    each = max(1, left // parts)
    lengths = [each] * (parts - 1) + [max(1, left - each * (parts - 1))]
    contents = ["".join(text.passage(length, intent.language, rng)) for length in lengths]
    contents[-1] = ask + contents[-1]
    roles = cycle(["user", "assistant"])
    messages += [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return messages


def arrivals(rate: float, rng: Random, *, day: float = 0.0) -> Iterator[float]:
    """Seconds from the start at which requests arrive: Poisson, `rate` a second on average.

    With `day`, the rate swings by half around its mean over that many seconds (Lewis and Shedler's thinning).
    """
    peak = rate * (1.5 if day else 1.0)
    now = 0.0
    while True:
        now += rng.expovariate(peak)
        current = rate * (1 + 0.5 * sin(2 * pi * now / day)) if day else rate
        if rng.random() * peak < current:
            yield now
