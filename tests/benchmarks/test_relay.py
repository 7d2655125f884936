"""The relay's own code can be timed without sockets."""

from __future__ import annotations

from benchmarks.relay import TOKENS, measure


async def test_every_request_is_relayed_and_a_stream_takes_longer_than_its_chunks():
    """`measure` refuses to give figures of requests that were not relayed."""
    figures = await measure(rounds=2)

    assert figures.stream > figures.chunk * (TOKENS - 1) > 0
    assert figures.request > 0
