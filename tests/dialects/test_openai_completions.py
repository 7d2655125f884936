"""Completions: a prompt and its continuation."""

from __future__ import annotations

import pytest

from driftline import dialects
from driftline.call import Message, OutputMessage, TextPart, Usage
from tests.dialects.exchanges import exchange, recorded, stream

PATH = "/v1/completions"


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [("Once", ["Once"]), (["a", "b"], ["a", "b"]), ([7, 7], []), ([[7], [8]], []), (None, []), ({}, [])],
)
def test_prompts(prompt, texts):
    """A message for each text; token ids are not text."""
    call = dialects.read(exchange(PATH, request_body={"model": "m", "prompt": prompt, "max_tokens": 5}))
    assert call.input_messages == [Message("user", [TextPart(text)]) for text in texts]
    assert (call.operation, call.parameters.max_tokens) == ("text_completion", 5)


def test_a_reply():
    """Text, finish reason and usage of a recorded reply."""
    call = dialects.read(recorded("python-frontend/completion"))
    text = "TestResultutestsidx __hextobyte wouldgetpasspreservebrARENmostEqualfigure"
    assert call.output_messages == [OutputMessage("assistant", [TextPart(text)], "length")]
    assert call.usage == Usage(6, 12, cached_tokens=0)


def test_both_frontends_stream_the_same_text():
    """The finish reason comes with the last token in one, in an event of its own in the other."""
    name = "completion-stream-usage"
    python, rust = (dialects.read(recorded(f"{frontend}-frontend/{name}")) for frontend in ("python", "rust"))
    assert (
        rust.output_messages[0].text
        == dialects.read(recorded("python-frontend/completion")).output_messages[0].text
    )
    assert python.finish_reasons == rust.finish_reasons == ["length"]
    assert (python.usage, rust.usage) == (Usage(6, 12, cached_tokens=0), Usage(6, 12))


def test_a_count_in_each_event():
    """Of `continuous_usage_stats` the last counts."""
    call = dialects.read(recorded("python-frontend/completion-stream-usage-each"))
    assert call.usage == Usage(6, 12, cached_tokens=0)


def test_choices_are_put_together_by_index():
    """Pieces of two choices arrive interleaved, and one may stay empty."""
    pieces = [(1, "C", None), (0, "A", None), (1, "D", "stop"), (0, "B", None), (2, "", "length")]
    events = [
        {"choices": [{"index": i, "text": text, "finish_reason": finish}]} for i, text, finish in pieces
    ]
    call = dialects.read(exchange(PATH, stream=True, response_body=stream(*events)))
    assert call.output_messages == [
        OutputMessage("assistant", [TextPart("AB")], None),
        OutputMessage("assistant", [TextPart("CD")], "stop"),
        OutputMessage("assistant", [], "length"),
    ]
    assert call.usage == Usage(output_tokens=4, partial=True)


def test_counts_beside_choices_are_of_these_choices_only():
    """A stream of four choices that was left after its last finish reason has no count of all of them."""
    name = "python-frontend-0.32/completion-n2-stream"
    whole = recorded(name)
    events = whole.response_body.head.split(b"\n\n")
    left = recorded(name, response_body=b"\n\n".join(events[:-3]) + b"\n\n", outcome="client_closed")
    assert dialects.read(whole).usage == Usage(4, 16, cached_tokens=0)
    assert dialects.read(left).finish_reasons == ["length"] * 4
    assert dialects.read(left).usage == Usage(2, 4, partial=True)
