"""What streams of chat completions and completions have in common: all but the form of their choices."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from driftline.call import Call, Usage
from driftline.dialects import openai
from driftline.dialects.outcome import ErrorDetail, settle
from driftline.dialects.wire import Shape


class ChunkChoice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None


class Chunk(openai.Envelope, gc=False):
    """An event. Dialects put choices of their own form in place of these.

    A stream has thousands, and none is part of a cycle: the collector need not look at them.
    """

    choices: Sequence[ChunkChoice] = []
    error: ErrorDetail | str | None = None


_CHUNK = Shape(Chunk)


def read_chunks(call: Call, chunks: Sequence[Chunk], *, done: bool, contents: int) -> None:
    """All of a stream but its choices, which stand in `call.output_messages` by now.

    `done`: it ended with `[DONE]`. `contents`: how many events carried content.
    """
    # vLLM's Python frontend (0.26) moves `system_fingerprint` to the last event, hence the look at both ends.
    for chunk in (*chunks[:1], *chunks[-2:]):
        openai.read_envelope(call, chunk)
    outputs = call.output_messages
    expected = call.parameters.choice_count or 1
    finished = done or (len(outputs) >= expected and all(message.finish_reason for message in outputs))
    call.usage = _final_usage(call, chunks, done=done, finished=finished) or at_least(call, contents)
    errors = (chunk.error for chunk in reversed(chunks) if chunk.error is not None)
    settle(call, finished=finished, error=next(errors, None))


def _final_usage(call: Call, chunks: Sequence[Chunk], *, done: bool, finished: bool) -> Usage | None:
    """The last count of the stream, marked partial unless it is the engine's final one.

    What the relay scanned comes first: it is whole where the body is not, and there where the event was cut out
    of the stream. A count beside choices (`continuous_usage_stats`) is of these choices only.
    """
    event = _scanned(call.exchange.usage_event) or next(
        (c for c in reversed(chunks) if c.usage is not None), None
    )
    found = openai.usage(event.usage) if event else None
    if event is not None and found is not None:
        of_all = done or not event.choices or len(call.output_messages) == 1
        found.partial = not (finished and of_all)
    return found


def at_least(call: Call, contents: int) -> Usage | None:
    """A lower bound of the output where nothing was counted: vLLM sends a token or more with each event."""
    return Usage(output_tokens=contents, partial=True) if contents and not call.truncated_record else None


def _scanned(event: bytes) -> Chunk | None:
    return _CHUNK.decode(event) if event else None
