"""What the mock upstream says, and what the load generator therefore accepts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import wire

SENT = [1_000, 2_500, 4_000]


def stream(request: int, moments: list[int]) -> bytes:
    """The body a client that did not ask for usage must see."""
    deltas = [wire.delta_template(request) % moment for moment in moments[:-1]]
    finish = wire.finish_template(request, usage=False) % moments[-1]
    return b"".join([wire.role_event(request), *deltas, finish, wire.DONE])


def test_a_faithful_stream_yields_the_moment_each_token_was_sent():
    """The latency of every token is computed from these."""
    assert wire.Expected(7, tokens=3).check(stream(7, SENT)) == SENT


@given(at=st.integers(min_value=0, max_value=len(stream(7, SENT)) - 1), byte=st.integers(0, 255))
def test_any_altered_byte_is_found(at, byte):
    """Whatever single byte a proxy changes, outside the digits of a moment, the stream is not accepted."""
    body = bytearray(stream(7, SENT))
    digits = chr(body[at]).isdigit() and chr(byte).isdigit()
    changed = body[at] != byte
    body[at] = byte
    seen = wire.Expected(7, tokens=3).check(bytes(body))
    if changed and not digits:
        assert seen == "altered"
    elif not changed:
        assert seen == SENT


@given(at=st.integers(min_value=0, max_value=len(stream(7, SENT)) - 1))
def test_any_missing_end_is_found(at):
    """A stream that was cut anywhere is not complete."""
    assert wire.Expected(7, tokens=3).check(stream(7, SENT)[:at]) == "incomplete"


@pytest.mark.parametrize(
    "body",
    [
        stream(8, SENT),
        stream(7, [*SENT, 5_000]),
        stream(7, SENT) + wire.DONE,
        stream(7, SENT).replace(wire.DONE, wire.usage_event(7, 3) + wire.DONE),
        stream(7, SENT).replace(wire.FINGERPRINT.encode(), b"") + b" " * len(wire.FINGERPRINT),
    ],
    ids=["another stream's", "a doubled token", "a second end", "the usage event left in", "no fingerprint"],
)
def test_a_stream_that_is_not_the_one_expected_is_found(body):
    """Mixed-up, doubled and uncut events are faults, whatever else holds."""
    assert wire.Expected(7, tokens=3).check(body) == "altered"


def test_every_event_is_json_and_the_fingerprint_is_on_the_last_one():
    """As vLLM 0.26's Python frontend does: on the finish event, or on the usage event where there is one."""
    events = [wire.role_event(7), wire.delta_template(7) % 1, wire.finish_template(7, usage=False) % 2]
    asked = [wire.finish_template(7, usage=True) % 2, wire.usage_event(7, 3)]
    plain = [json.loads(event.removeprefix(b"data: ")) for event in events]
    with_usage = [json.loads(event.removeprefix(b"data: ")) for event in asked]
    assert ["system_fingerprint" in event for event in plain] == [False, False, True]
    assert ["system_fingerprint" in event for event in with_usage] == [False, True]
    assert with_usage[1]["choices"] == []
    assert with_usage[1]["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(("form", "size"), [(wire.python_completion, 239), (wire.rust_completion, 142)])
def test_events_have_the_size_that_was_recorded(form, size):
    """235–240 bytes behind the Python frontend and 142 behind the Rust one, framing included."""
    assert len(wire.chunk(form(7, 256, True).delta % SENT[0])) == size


@pytest.mark.parametrize("form", [wire.chat, wire.python_completion, wire.rust_completion])
def test_a_stream_without_usage_is_what_its_client_expects(form):
    """In every form; and a stream with usage is another one."""
    plain, asked = [
        b"".join([said.opening, *[said.delta % at for at in SENT[:-1]], said.last % SENT[-1], *said.ending])
        for said in (form(7, 3, False), form(7, 3, True))
    ]
    expected = wire.Expected(7, 3, form)
    assert expected.check(plain) == SENT
    assert expected.check(asked) == "altered"
    events = [event for event in plain.split(b"\n\n") if event][:-1]
    assert all(json.loads(event.removeprefix(b"data: "))["choices"] for event in events)


@pytest.mark.parametrize("request_number", [0, 575, 10**6])
def test_requests_and_replies_have_their_size(request_number):
    """The table of non-stream requests is about bodies of 700 bytes."""
    bodies = [
        wire.request_body(request_number, tokens=128, stream=True),
        wire.request_body(request_number, tokens=40, stream=False),
        wire.reply(request_number),
    ]
    assert [len(body) for body in bodies] == [wire.BODY_BYTES] * 3
    assert all(json.loads(body)["model"] == wire.MODEL for body in bodies)
