"""Where a request goes: a pool by path and model, a variant by weight, a server by load. No sockets, no clock."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from hashlib import blake2b
from math import log
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from driftline.relay.settings import Pool, Route


class Table:
    """Which pool serves a path or a model. Pools are spoken of by name; empty: none does."""

    def __init__(self, pools: list[Pool], routes: list[Route]) -> None:
        self.default = next((pool.name for pool in pools if not pool.models), "")
        """Serves what no route and no other pool does."""
        self.models = [model for pool in pools for model in pool.models]
        """As configured."""
        self._routes = sorted(routes, key=lambda route: len(route.path), reverse=True)
        listed = [(model, pool.name) for pool in pools for model in pool.models]
        self._exact = dict(listed)
        self._patterns = [
            (re.compile(".*".join(map(re.escape, model.split("*"))), re.DOTALL), pool)
            for model, pool in listed
            if "*" in model
        ]

    @property
    def trivial(self) -> bool:
        """Everything goes to the default pool."""
        return not self._routes and not self.models

    def route(self, path: str) -> Route | None:
        """The one whose prefix covers most of a request's path."""
        for route in self._routes:
            if path.startswith(route.path) and path[len(route.path) : len(route.path) + 1] in ("", "/"):
                return route
        return None

    def serving(self, model: str) -> str:
        """The pool that lists `model`: by name, else by the first pattern that it matches; else the default pool."""
        if model in self._exact:
            return self._exact[model]
        return next((pool for pattern, pool in self._patterns if pattern.fullmatch(model)), self.default)


class _Named(msgspec.Struct):
    """The top-level key that matters; the rest is skipped, not built."""

    model: Any = None


_decode_named = msgspec.json.Decoder(_Named).decode


def model_in(body: bytes) -> str:
    """The model that a JSON body names at its top level; empty where it names none, or is not JSON."""
    try:
        model = _decode_named(body).model
    except (ValueError, RecursionError):
        return ""
    return model if isinstance(model, str) else ""


class Server(Protocol):
    """What is to be known of an endpoint to choose it."""

    @property
    def healthy(self) -> bool: ...
    @property
    def outstanding(self) -> int:
        """Requests in flight."""


S = TypeVar("S", bound=Server)


class Member(NamedTuple, Generic[S]):
    """A server's place in a pool."""

    server: S
    weight: float
    variant: str


class Variant(Generic[S]):
    """Servers of a pool that run the same thing."""

    def __init__(self, pool: str, name: str, members: list[Member[S]]) -> None:
        self.name = name
        self.weight = sum(member.weight for member in members)
        self.members = [member for member in members if member.weight] or [
            member._replace(weight=1.0) for member in members
        ]
        """Those that take requests. Where no member has a weight, whoever asks for this very variant gets any."""
        self._seed = blake2b(f"{pool}\0{name}\0".encode(), digest_size=8)

    def score(self, key: bytes) -> float:
        """Of the variants of a pool the one with the highest score for its key serves a session.

        Weighted rendezvous hashing: w / -ln u, u uniform in (0, 1) by a hash of key and variant. The highest belongs
        to a variant as often as its weight says, and a changed weight changes no other's score, so only sessions that
        this one gains or loses move (Schindelhauer and Schomaker, Weighted Distributed Hash Tables, SPAA 2005, the
        logarithmic method).
        """
        seeded = self._seed.copy()
        seeded.update(key)
        # 52 bits and a half: exact in a double, and neither 0 nor 1.
        uniform = ((int.from_bytes(seeded.digest(), "big") >> 12) + 0.5) / (1 << 52)
        return self.weight / -log(uniform)


class Balancer(Generic[S]):
    """Whom of a pool to ask."""

    def __init__(self, pool: str, members: list[Member[S]]) -> None:
        names = dict.fromkeys(member.variant for member in members)
        self.variants = {
            name: Variant(pool, name, [member for member in members if member.variant == name])
            for name in names
        }
        self._weighted = [variant for variant in self.variants.values() if variant.weight]
        self.splits = len(self._weighted) > 1
        """It matters who asks."""
        self._unsplit = _ranked(self._weighted)

    def candidates(self, key: bytes, forced: str = "") -> Iterator[tuple[str, S]]:
        """Variant and server, first the one to ask, then whom to ask when that one cannot be reached.

        The session's variant comes first, then the others in the session's order, each while it has a healthy server;
        then what is left: a health check may be wrong, a refused connection is not. A variant of weight 0 takes
        nothing unless it is `forced`, and then alone.
        """
        if forced:
            ranked = _ranked([self.variants[forced]])
        elif self.splits:
            ranked = _ranked(sorted(self._weighted, key=lambda variant: variant.score(key), reverse=True))
        else:
            ranked = self._unsplit
        if len(ranked) == 1:
            only = ranked[0][1]
            return iter([(only.variant, only.server)])
        return _in_order(ranked)


def _ranked(variants: list[Variant[S]]) -> list[tuple[int, Member[S]]]:
    """Their members, each with the rank of its variant."""
    return [(rank, member) for rank, variant in enumerate(variants) for member in variant.members]


def _in_order(left: list[tuple[int, Member[S]]]) -> Iterator[tuple[str, S]]:
    # From a random place on, as the first of equals is taken: several relays that each see only their own requests
    # would all begin with the same server.
    start = int(random.random() * len(left))
    left = left[start:] + left[:start]
    while left:
        chosen = min(left, key=_preference)
        yield chosen[1].variant, chosen[1].server
        left.remove(chosen)


def _preference(ranked: tuple[int, Member[S]]) -> tuple[bool, int, float]:
    """Least first: healthy, then by variant, then by requests in flight (the next included) relative to weight."""
    rank, (server, weight, _) = ranked
    return not server.healthy, rank, (server.outstanding + 1) / weight
