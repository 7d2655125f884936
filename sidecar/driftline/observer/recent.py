"""The last calls, in memory: what the console shows and what a drift incident's trace ids lead to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec

from driftline.call import Attribution, Call, Cost, Usage
from driftline.exchange import NEVER


class Entry(msgspec.Struct, array_like=True):
    """What is kept of a call: nothing that anybody said."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    trace_flags: int
    received_at: int
    moments: tuple[int, int, int, int, int, int, int]
    method: str
    path: str
    upstream: str
    variant: str
    status: int
    outcome: str
    error: str
    """The relay's own: an engine's may quote the request."""
    error_type: str | None
    stream: bool
    usage_asked: str
    request_bytes: int
    response_bytes: int
    operation: str
    model: str
    response_model: str | None
    ttft: float | None
    tpot: float | None
    usage: Usage | None
    cost: Cost | None
    finish_reasons: list[str]
    tools_called: list[str]
    signals: dict[str, str | bool | float]
    attribution: Attribution


_MOMENTS = ("connected", "request_sent", "first_byte", "first_content", "last_content", "last_byte", "ended")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def entry(call: Call) -> Entry:
    exchange = call.exchange
    return Entry(
        exchange.trace_id,
        exchange.span_id,
        exchange.parent_span_id,
        exchange.trace_flags,
        exchange.received_at,
        (
            exchange.connected,
            exchange.request_sent,
            exchange.first_byte,
            exchange.first_content,
            exchange.last_content,
            exchange.last_byte,
            exchange.ended,
        ),
        exchange.method,
        exchange.path,
        exchange.upstream,
        exchange.variant,
        exchange.status,
        exchange.outcome,
        exchange.error,
        call.error_type,
        exchange.stream,
        exchange.usage,
        exchange.request_body.size,
        exchange.response_body.size,
        call.operation,
        call.model,
        call.response_model,
        call.ttft,
        call.tpot,
        call.usage,
        call.cost,
        call.finish_reasons,
        [tool.name for tool in call.tool_calls],
        call.signals,
        call.attribution,
    )


class RecentCalls:
    """The newest `size` calls by span id, in at most `most_bytes`. Two calls of one trace are two entries.

    Kept encoded: some hundred bytes each, where the objects with their texts would be some ten thousand.
    """

    def __init__(self, size: int = 1000, kept: int = 500, most_bytes: int = 4 * 1024 * 1024) -> None:
        self._size = size
        self._most_kept = kept
        self._most_bytes = most_bytes
        self._bytes = 0
        self._calls: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def observe(self, call: Call) -> None:
        span_id, encoded = call.exchange.span_id, _encode(entry(call))
        self._bytes += len(encoded) - len(self._calls.get(span_id, b""))
        self._calls[span_id] = encoded
        while len(self._calls) > self._size or self._bytes > self._most_bytes:
            self._bytes -= len(self._calls.popitem(last=False)[1])

    def keep(self, trace_ids: Iterable[str]) -> None:
        """Do not forget these with the others: an incident points to them, and is read long after it opened."""
        wanted = {bytes.fromhex(trace_id) for trace_id in trace_ids}
        for span_id, encoded in self._calls.items():
            if _decode(encoded).trace_id in wanted:
                self._kept[span_id] = encoded
        while len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)

    def newest(self, limit: int, **wanted: str) -> list[dict[str, Any]]:
        """Summaries, newest first; `wanted` keeps those that have these values."""

        def summaries() -> Iterator[dict[str, Any]]:
            for encoded in reversed(self._calls.values()):
                facts = summary(_decode(encoded))
                if all(str(facts.get(name)) == value for name, value in wanted.items()):
                    yield facts

        return list(islice(summaries(), limit))

    def of_trace(self, trace_id: bytes) -> list[dict[str, Any]]:
        """Details, oldest first."""
        entries = map(_decode, (self._kept | self._calls).values())
        return [detail(one) for one in entries if one.trace_id == trace_id]

    def __len__(self) -> int:
        return len(self._calls)


def summary(one: Entry) -> dict[str, Any]:
    """A call in plain values. Times in seconds, cost in dollars."""
    usage, cost, who = one.usage, one.cost, one.attribution
    return {
        "trace_id": one.trace_id.hex(),
        "span_id": one.span_id.hex(),
        "parent_span_id": one.parent_span_id.hex() or None,
        "started_at": datetime.fromtimestamp(one.received_at / 1e9, UTC).isoformat(timespec="milliseconds"),
        "operation": one.operation,
        "model": one.model,
        "response_model": one.response_model,
        "variant": one.variant or None,
        "upstream": one.upstream,
        "status": one.status,
        "outcome": one.outcome,
        "error_type": one.error_type,
        "error": one.error or None,
        "stream": one.stream,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "usage_partial": usage and usage.partial,
        "finish_reasons": one.finish_reasons,
        "tools_called": one.tools_called,
        "ttft": one.ttft,
        "tpot": one.tpot,
        "duration": one.moments[-1] / 1e9,
        "cost_usd": cost and cost.total / 1e9,
        "cost_partial": cost and cost.partial,
        "signals": one.signals,
        "team": who.team,
        "product": who.product,
        "feature": who.feature,
        "session": who.session,
        "user": who.user,
        "sampled": bool(one.trace_flags & 1),
    }


def detail(one: Entry) -> dict[str, Any]:
    """`summary` and the moments of the exchange, seconds after its first byte."""
    moments = zip(_MOMENTS, one.moments, strict=True)
    return {
        **summary(one),
        "method": one.method,
        "path": one.path,
        "request_bytes": one.request_bytes,
        "response_bytes": one.response_bytes,
        "usage_requested_by": {"requested": "client", "injected": "sidecar"}.get(one.usage_asked),
        "moments": {name: moment / 1e9 for name, moment in moments if moment != NEVER},
    }
