"""How each drift feature is read from a call. `drift/` declares what a feature is; this says where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from driftline.call import UNKNOWN, Call
from driftline.drift.observation import Observation, Value
from driftline.quality import adverse


class _Absent(Enum):
    ABSENT = "the feature does not apply to this call"


ABSENT: Final = _Absent.ABSENT
Reading = Value | _Absent


def _whole(read: Callable[[Call], Reading]) -> Callable[[Call], Reading]:
    """Of calls that ended well: a reply cut short by a client or an error is no shorter reply."""
    return lambda call: read(call) if call.exchange.outcome == "complete" and not call.error_type else ABSENT


def _replies(read: Callable[[Call], Reading]) -> Callable[[Call], Reading]:
    """Of calls that generate text."""
    return _whole(lambda call: ABSENT if call.operation == "embeddings" else read(call))


def _counted(tokens: int | None, call: Call) -> int | None:
    """The engine's own count: what was counted by events is a lower bound, and missing here."""
    return None if call.usage is None or call.usage.partial else tokens


def _signal(name: str) -> Callable[[Call], Reading]:
    """Whether a quality signal speaks against the reply, where it applied."""

    def read(call: Call) -> Reading:
        value = call.signals.get(name)
        against = None if value is None else adverse(value)
        return ABSENT if against is None else against

    return read


def _if_streamed(read: Callable[[Call], float | None]) -> Callable[[Call], Reading]:
    return lambda call: read(call) if call.exchange.stream else ABSENT


READ: dict[str, Callable[[Call], Reading]] = {
    "input_tokens": _whole(lambda call: call.usage.input_tokens if call.usage else None),
    "output_tokens": _replies(lambda call: _counted(call.usage.output_tokens, call) if call.usage else None),
    "prompt_chars": _whole(lambda call: ABSENT if call.truncated_record else call.prompt_chars),
    "messages": _whole(lambda call: len(call.input_messages) if call.operation == "chat" else ABSENT),
    "tool_calls": _replies(lambda call: len(call.tool_calls) if call.tools else ABSENT),
    "ttft": _replies(_if_streamed(lambda call: call.ttft)),
    "tpot": _replies(_if_streamed(lambda call: call.tpot)),
    "duration": _whole(lambda call: call.duration),
    "finish_reason": _replies(lambda call: next(iter(call.finish_reasons), None)),
    "refusal": _signal("refusal"),
    "json_invalid": _signal("json_invalid"),
    "truncated": _signal("truncated"),
    "error": lambda call: call.error_type or "none",
    "temperature": lambda call: ABSENT if call.operation == "embeddings" else call.parameters.temperature,
}
"""By feature name, for those that can be read so far."""


class FeatureReader:
    """Reads the chosen features. Raises `ValueError` for one that cannot be read from live traffic yet."""

    def __init__(self, features: Sequence[str]) -> None:
        unread = [name for name in features if name not in READ]
        if unread:
            raise ValueError(
                f"{', '.join(unread)} can be replayed but not read from live traffic yet; "
                f"choose among {', '.join(READ)}"
            )
        self._readers = [(name, READ[name]) for name in features]

    def observation(self, call: Call) -> Observation | None:
        """None for a call that no model answered: its model's name is only what a client wrote."""
        exchange = call.exchange
        if exchange.status in (0, 404) or call.model == UNKNOWN:
            return None
        values: dict[str, Value] = {}
        for name, read in self._readers:
            value = read(call)
            if value is not ABSENT:
                values[name] = value
        return Observation(
            timestamp=(exchange.received_at + max(exchange.ended, 0)) / 1e9,
            model=call.model,
            variant=exchange.variant,
            tenant=call.attribution.team or "",
            trace_id=exchange.trace_id.hex(),
            values=values,
        )
