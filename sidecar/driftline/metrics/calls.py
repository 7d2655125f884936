"""What is measured of calls and exchanges."""

from __future__ import annotations

from typing import NamedTuple

from driftline.call import Call
from driftline.exchange import NEVER, Exchange
from driftline.metrics.instruments import Cell, Counter, Histogram, Label, Metric
from driftline.metrics.labels import LabelBound
from driftline.tracing import semconv
from driftline.tracing.spans import split_address

UNATTRIBUTED = "__unattributed__"

_SERVER = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
# Bounds are the conventions' advice (v1.41.1, gen-ai-metrics.md).
_DURATIONS = tuple(0.01 * 2**i for i in range(14))
_TOKENS = tuple(4**i for i in range(14))
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_OVERHEAD = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 1.0)
_NANO = 1_000_000_000


class _Series(NamedTuple):
    """The cells of calls that share their labels."""

    duration: Cell
    input_tokens: Cell
    output_tokens: Cell
    first_token: Cell
    per_token: Cell


class CallMetrics:
    """An observer. Labels that clients choose are bounded."""

    def __init__(self, bound: LabelBound) -> None:
        self._bound = bound
        self._series: dict[tuple[str | None, ...], _Series] = {}
        self._duration = Histogram(
            name=semconv.CLIENT_OPERATION_DURATION,
            description="GenAI operation duration, from the first byte of the request to the end.",
            unit="s",
            labels=(*_SERVER, semconv.ERROR_TYPE),
            bounds=_DURATIONS,
        )
        self._tokens = Histogram(
            name=semconv.CLIENT_TOKEN_USAGE,
            description="Number of input and output tokens used, as the engine counted them.",
            unit="{token}",
            labels=(*_SERVER, semconv.TOKEN_TYPE),
            bounds=_TOKENS,
        )
        self._first_token = Histogram(
            name=semconv.SERVER_TIME_TO_FIRST_TOKEN,
            description="Time to the first token of streams that went well, seen in front of the engine.",
            unit="s",
            labels=_SERVER,
            bounds=_FIRST,
        )
        self._per_token = Histogram(
            name=semconv.SERVER_TIME_PER_OUTPUT_TOKEN,
            description="Time per output token after the first, of streams that went well.",
            unit="s",
            labels=_SERVER,
            bounds=_PER_TOKEN,
        )
        self._overhead = Histogram(
            name="driftline.relay.overhead",
            description="Time the relay held a request, a first byte or a chunk (the mean of its stream's).",
            unit="s",
            labels=("phase",),
            bounds=_OVERHEAD,
        )
        self._phases = {phase: self._overhead.cell((phase,)) for phase in ("request", "first_byte", "chunk")}
        self._quality = Counter(
            name="driftline.quality",
            description="Calls by quality signal and what it found.",
            unit="{call}",
            labels=("signal", "outcome", "model", "variant"),
        )
        self._cost = Counter(
            name="driftline.cost.usd",
            description="US dollars by the price table.",
            unit="{USD}",
            labels=("kind", "team", "product", "feature", "model", "variant"),
            scale=_NANO,
        )

    @property
    def metrics(self) -> list[Metric]:
        return [
            self._duration,
            self._tokens,
            self._first_token,
            self._per_token,
            self._overhead,
            self._quality,
            self._cost,
        ]

    def observe(self, call: Call) -> None:
        exchange, usage, well = call.exchange, call.usage, call.error_type is None
        series = self._series_of(call)
        series.duration.observe(exchange.ended / _NANO)
        if usage is not None:
            if usage.input_tokens is not None:
                series.input_tokens.observe(usage.input_tokens)
            if usage.output_tokens is not None and call.operation != "embeddings":
                series.output_tokens.observe(usage.output_tokens)
        if well and (first := call.ttft) is not None:
            series.first_token.observe(first)
        if well and (per_token := call.tpot) is not None:
            series.per_token.observe(per_token)
        self._judged(call)

    def relayed(self, exchange: Exchange) -> None:
        """For every exchange, a call or not: what the relay itself cost."""
        phases = self._phases
        if exchange.overhead_request != NEVER:
            phases["request"].observe(exchange.overhead_request / _NANO)
        if exchange.overhead_first_byte != NEVER:
            phases["first_byte"].observe(exchange.overhead_first_byte / _NANO)
        if exchange.stream and exchange.reads:
            phases["chunk"].observe(exchange.overhead_chunks / exchange.reads / _NANO, exchange.reads)

    def _judged(self, call: Call) -> None:
        bound, who = self._bound, call.attribution
        model, variant = self._model(call, call.model), bound("variant", call.exchange.variant)
        for signal, value in call.signals.items():
            if isinstance(value, bool):
                self._quality.add((signal, "true" if value else "false", model, variant))
            elif isinstance(value, str):
                self._quality.add((signal, bound(f"{signal} outcome", value), model, variant))
        for reason in call.unread:
            self._quality.add(("unread", reason, model, variant))
        if call.exchange.usage:
            self._quality.add(("usage", call.exchange.usage, model, variant))
        if (cost := call.cost) is not None:
            owner = (
                bound("team", who.team or UNATTRIBUTED),
                bound("product", who.product or UNATTRIBUTED),
                bound("feature", who.feature or UNATTRIBUTED),
                model,
                variant,
            )
            for kind, nano in (("input", cost.input), ("cached", cost.cached), ("output", cost.output)):
                self._cost.add((kind, *owner), nano)

    def _model(self, call: Call, name: str) -> str:
        # A refused request proves nothing about a model: names made up by a client would take up all places.
        return self._bound("model", name, admit=not 400 <= call.exchange.status < 500)

    def _series_of(self, call: Call) -> _Series:
        key = (
            call.operation,
            call.request_model,
            call.response_model,
            call.exchange.upstream,
            call.error_type,
        )
        series = self._series.get(key)
        if series is None:
            folded = self._bound.folded
            series = self._new_series(call)
            if self._bound.folded == folded:
                self._series[key] = series
        return series

    def _new_series(self, call: Call) -> _Series:
        bound = self._bound
        address, port = split_address(call.exchange.upstream)
        server: tuple[Label, ...] = (
            call.operation,
            semconv.VLLM,
            self._model(call, call.request_model) if call.request_model else "",
            self._model(call, call.response_model) if call.response_model else "",
            address or "",
            "" if port is None else port,
        )
        error = bound("error_type", call.error_type) if call.error_type else ""
        return _Series(
            duration=self._duration.cell((*server, error)),
            input_tokens=self._tokens.cell((*server, "input")),
            output_tokens=self._tokens.cell((*server, "output")),
            first_token=self._first_token.cell(server),
            per_token=self._per_token.cell(server),
        )
