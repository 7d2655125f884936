"""A call that failed says how, in one of few words."""

from __future__ import annotations

import pytest

from driftline import dialects
from driftline.exchange import Body
from tests.dialects.exchanges import exchange, recorded, stream

DELTA = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
SERVER_ERROR = {"error": {"message": "engine died", "type": "InternalServerError", "code": 500}}


@pytest.mark.parametrize(
    ("status", "body", "error_type", "message"),
    [
        (404, {"error": {"message": "no", "type": "NotFoundError", "param": "model", "code": 404}}, "NotFoundError", "no"),
        (404, {"error": {"message": "no", "type": "invalid_request_error", "code": "model_not_found"}}, "model_not_found", "no"),
        (400, {"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, "BadRequestError", "no"),
        (429, {"error": "slow down"}, "429", "slow down"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "422", None),
        (404, {"detail": "Not Found"}, "404", "Not Found"),
        (400, {"error": {"type": "no such word: 'x y'", "code": None}}, "400", None),
        (400, {"error": {"type": "T" * 65}}, "400", None),
        (502, b"<html>Bad Gateway</html>", "502", None),
        (503, b"", "503", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
)
def test_a_status_of_error(path, status, body, error_type, message):
    """The server's own name of the error where it is a name, else the status."""
    call = dialects.read(exchange(path, request_body={"model": "m"}, status=status, response_body=body))
    assert (call.error_type, call.error_message) == (error_type, message)
    assert call.usage is None
    assert call.output_messages == []


def test_both_frontends_of_vllm():
    """The same mistake has another name in each."""
    names = [f"{frontend}-frontend/error-model" for frontend in ("python", "rust")]
    assert [dialects.read(recorded(name)).error_type for name in names] == [
        "NotFoundError",
        "model_not_found",
    ]


@pytest.mark.parametrize(
    "outcome", ["timeout", "upstream_unreachable", "upstream_failed", "bad_request", "drained"]
)
def test_what_we_did_instead_of_the_server(outcome):
    """Our own replies are not mistaken for the server's."""
    call = dialects.read(
        exchange(outcome=outcome, status=504, response_body=SERVER_ERROR, error="no answer in 5 s")
    )
    assert (call.error_type, call.error_message) == (outcome, "no answer in 5 s")


@pytest.mark.parametrize(
    ("outcome", "events", "done", "error_type"),
    [
        ("complete", [DELTA, FINISH], True, None),
        ("complete", [DELTA, FINISH], False, None),
        ("complete", [DELTA], True, None),
        ("complete", [DELTA], False, "incomplete_stream"),
        ("complete", [], False, "incomplete_stream"),
        ("complete", [DELTA, SERVER_ERROR], True, "InternalServerError"),
        ("complete", [{"error": "engine died"}], True, "_OTHER"),
        ("client_closed", [DELTA], False, "client_closed"),
        ("client_closed", [DELTA, FINISH], False, None),
        ("client_closed", [DELTA, SERVER_ERROR], False, "InternalServerError"),
        ("upstream_broken", [DELTA], False, "upstream_broken"),
        ("upstream_broken", [DELTA, FINISH], False, "upstream_broken"),
        ("upstream_broken", [DELTA, SERVER_ERROR], False, "InternalServerError"),
    ],
)
def test_how_a_stream_ended(outcome, events, done, error_type):
    """An error inside a stream under 200 is one; a client that left with the whole reply is none."""
    call = dialects.read(exchange(stream=True, outcome=outcome, response_body=stream(*events, done=done)))
    assert call.error_type == error_type


def test_a_stream_that_was_not_read_is_not_called_incomplete():
    """Compressed in a way that is not read, or cut in the record: its end is not known."""
    body = Body(stream(DELTA), b"data: {", 1_000_000)
    cut = exchange(stream=True, request_body={}, response_body=body)
    packed = exchange(
        stream=True, request_body={}, response_body=b"?", response_headers=[("content-encoding", "br")]
    )
    assert [dialects.read(unread).error_type for unread in (cut, packed)] == [None, None]


def test_a_long_message_is_cut():
    """A server may quote the whole request in it."""
    reply = {"error": {"message": "x" * 5000, "type": "BadRequestError"}}
    assert len(dialects.read(exchange(status=400, response_body=reply)).error_message) == 1000


def test_a_client_that_left_before_the_reply():
    """Without a stream, what did not arrive was not finished."""
    assert dialects.read(exchange(outcome="client_closed", status=0)).error_type == "client_closed"
