"""A whole event stream, event by event, each with the tokens to wait for before it. No clock, no socket."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple

from driftline.simulate import forms
from driftline.simulate.replies import Reply
from driftline.simulate.requests import Generation


class Slice(NamedTuple):
    """Tokens `start` to `end` of one choice, which one event brings."""

    start: int
    choice: int
    end: int


def slices(choices: list[Reply], interval: int) -> list[Slice]:
    """The first token of a choice by itself, then `interval` at a time; choices decode side by side.

    >>> [tuple(part) for part in slices([Reply(pieces=["a", "b", "c", "d"], finish="length")], 2)]
    [(0, 0, 1), (1, 0, 3), (3, 0, 4)]
    """
    found = []
    for index, reply in enumerate(choices):
        cuts = [0, *range(1, reply.tokens, interval), reply.tokens]
        found += [Slice(start, index, end) for start, end in pairwise(cuts)]
    return sorted(found)


def events(
    request: Generation,
    shape: forms.Forms,
    choices: list[Reply],
    tokens: forms.Tokens,
    *,
    interval: int,
    rng: Random,
) -> Iterator[tuple[int, bytes]]:
    """Tokens to decode before the event, and the event. Counts what it gave out in `tokens.output`."""
    each = request.usage_in_each
    for index in range(len(choices)):
        opening = shape.opening(index, tokens.so_far() if each else None)
        if opening is not None:
            yield 0, forms.event(opening)
    parts = slices(choices, interval)
    at = 0
    for part in parts:
        start, index, end = part
        reply = choices[index]
        pieces = reply.pieces[start:end]
        tokens.output += end - start
        likely = (
            forms.logprobs(pieces, request.logprob_count, rng) if request.logprob_count is not None else None
        )
        delta = shape.delta(index, reply, pieces, likely, first=start == 0, last=end == reply.tokens)
        last = part is parts[-1] and not request.usage_at_end
        yield start - at, forms.event(shape.chunk(delta, tokens.so_far() if each else None, last=last))
        at = start
    if request.usage_at_end:
        yield 0, forms.event(shape.usage_chunk(tokens))
    yield 0, forms.DONE


def failing(stream: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """`stream`, failing after three events as vLLM does under HTTP 200: an error event, then `[DONE]`."""
    for _, event in zip(range(3), stream, strict=False):
        yield event
    yield 0, forms.event(forms.error(500, "InternalServerError", "simulated failure"))
    yield 0, forms.DONE
