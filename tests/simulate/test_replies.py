"""What the simulated model writes, judged by the quality signals that will judge it."""

from random import Random

import msgspec
import pytest

from driftline.call import Call, JsonMode, OutputMessage, TextPart
from driftline.exchange import Exchange
from driftline.quality.json_invalid import JsonInvalidSignal
from driftline.quality.refusal import RefusalSignal
from driftline.simulate.replies import REDIRECTIONS, REFUSALS, Behaviour, chat_reply
from driftline.simulate.requests import ChatRequest
from driftline.simulate.workload import PROFILES, Workload

QUIET = Behaviour(refusal=0, broken_json=0, tool_call=0)
EXCHANGE = Exchange(
    trace_id=bytes(16),
    span_id=bytes(8),
    method="POST",
    target="/v1/chat/completions",
    outcome="complete",
    received_at=0,
)


def answered(text, *, json=False):
    """A call that got `text`."""
    message = OutputMessage(role="assistant", parts=[TextPart(content=text)], finish_reason="stop")
    return Call(
        exchange=EXCHANGE,
        dialect="openai_chat",
        operation="chat",
        output_messages=[message],
        json_mode=JsonMode() if json else None,
    )


def texts(steering, count=300, behaviour=QUIET, **kinds):
    """Replies to chats of the given kinds."""
    workload = Workload(msgspec.structs.replace(PROFILES["mixed"], kinds=kinds), model="m")
    for i in range(count):
        request = msgspec.convert(workload.next().body, ChatRequest)
        request.max_tokens = None
        yield "".join(chat_reply(request, behaviour, steering, Random(i)).pieces)


@pytest.mark.parametrize("redirection", REDIRECTIONS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_every_refusal_is_recognised(refusal, redirection):
    """However it is worded, and whatever is offered instead."""
    assert RefusalSignal().score(answered(refusal + redirection)) == "full"


def test_ordinary_replies_are_no_refusals():
    """So the rate that the detector sees is the rate that was asked for."""
    found = {RefusalSignal().score(answered(text)) for text in texts("", chat=1)}
    assert found == {"none"}


def test_refusals_come_where_they_are_asked_for():
    found = {RefusalSignal().score(answered(text)) for text in texts("refuse", chat=0.5, json=0.5)}
    assert found == {"full"}


def test_json_replies_are_valid_and_spoiled_ones_are_not():
    """By the signal's own words: none is taken for cut or empty."""
    signal = JsonInvalidSignal()
    assert {signal.score(answered(text, json=True)) for text in texts("", json=1)} == {"valid"}
    spoiled = {signal.score(answered(text, json=True)) for text in texts("break-json", json=1)}
    assert "valid" not in spoiled
    assert len(spoiled) > 1


def test_the_base_rates_are_those_of_the_behaviour():
    """Without any steering: refusals and broken JSON now and then, as from a real model."""
    usual = Behaviour(refusal=0.1, broken_json=0.2)
    refused = [RefusalSignal().score(answered(text)) for text in texts("", 1_000, usual, chat=1)]
    broken = [
        JsonInvalidSignal().score(answered(text, json=True)) for text in texts("", 1_000, usual, json=1)
    ]
    assert refused.count("full") == pytest.approx(100, abs=30)
    assert 1_000 - broken.count("valid") == pytest.approx(200, abs=40)
