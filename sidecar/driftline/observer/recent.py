"""The last calls, in memory: what the console shows and what a drift incident's trace ids lead to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from driftline.call import Call
from driftline.exchange import NEVER


class RecentCalls:
    """The newest `size` calls by span id. Two calls of one trace are two entries."""

    def __init__(self, size: int = 1000, kept: int = 500) -> None:
        self._size = size
        self._most_kept = kept
        self._calls: OrderedDict[bytes, Call] = OrderedDict()
        self._kept: OrderedDict[bytes, Call] = OrderedDict()

    def observe(self, call: Call) -> None:
        self._calls[call.exchange.span_id] = call
        if len(self._calls) > self._size:
            self._calls.popitem(last=False)

    def keep(self, trace_ids: Iterable[str]) -> None:
        """Do not forget these with the others: an incident points to them, and is read long after it opened."""
        wanted = {bytes.fromhex(trace_id) for trace_id in trace_ids}
        for span_id, call in self._calls.items():
            if call.exchange.trace_id in wanted:
                self._kept[span_id] = call
        while len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)

    def newest(self, limit: int, **wanted: str) -> list[Call]:
        """Newest first; `wanted` keeps those whose summary has these values."""

        def fits(call: Call) -> bool:
            facts = summary(call)
            return all(str(facts.get(name)) == value for name, value in wanted.items())

        matching = (call for call in reversed(self._calls.values()) if not wanted or fits(call))
        return list(islice(matching, limit))

    def of_trace(self, trace_id: bytes) -> list[Call]:
        """Oldest first."""
        return [call for call in (self._kept | self._calls).values() if call.exchange.trace_id == trace_id]

    def __len__(self) -> int:
        return len(self._calls)


def summary(call: Call) -> dict[str, Any]:
    """A call in plain values. Times in seconds, cost in dollars.

    Without what anybody said: an engine's error message may quote the request, so only the relay's own is shown.
    """
    exchange, usage = call.exchange, call.usage
    return {
        "trace_id": exchange.trace_id.hex(),
        "span_id": exchange.span_id.hex(),
        "parent_span_id": exchange.parent_span_id.hex() or None,
        "started_at": datetime.fromtimestamp(exchange.received_at / 1e9, UTC).isoformat(
            timespec="milliseconds"
        ),
        "operation": call.operation,
        "model": call.model,
        "response_model": call.response_model,
        "variant": exchange.variant or None,
        "upstream": exchange.upstream,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "error_type": call.error_type,
        "error": exchange.error or None,
        "stream": exchange.stream,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "usage_partial": usage and usage.partial,
        "finish_reasons": call.finish_reasons,
        "tools_called": [tool.name for tool in call.tool_calls],
        "ttft": call.ttft,
        "tpot": call.tpot,
        "duration": call.duration,
        "cost_usd": call.cost and call.cost.total / 1e9,
        "cost_partial": call.cost and call.cost.partial,
        "signals": call.signals,
        "team": call.attribution.team,
        "product": call.attribution.product,
        "feature": call.attribution.feature,
        "session": call.attribution.session,
        "user": call.attribution.user,
        "sampled": bool(exchange.trace_flags & 1),
    }


def detail(call: Call) -> dict[str, Any]:
    """`summary` and the moments of the exchange, seconds after its first byte."""
    exchange = call.exchange
    moments = {
        name: getattr(exchange, name) / 1e9
        for name in (
            "connected",
            "request_sent",
            "first_byte",
            "first_content",
            "last_content",
            "last_byte",
            "ended",
        )
        if getattr(exchange, name) != NEVER
    }
    return {
        **summary(call),
        "method": exchange.method,
        "path": exchange.path,
        "request_bytes": exchange.request_body.size,
        "response_bytes": exchange.response_body.size,
        "usage_requested_by": {"requested": "client", "injected": "sidecar"}.get(exchange.usage),
        "moments": moments,
    }
