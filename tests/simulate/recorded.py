"""The recorded exchanges of a real vLLM, where they are at hand, and the shapes they have."""

import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"
RAW = DATA / "vllm-h100" / "raw"

recordings = pytest.mark.skipif(not RAW.is_dir(), reason=f"{RAW} is not here")


def request(name):
    """Path, headers and body of a recorded request."""
    head, _, body = (RAW / f"{name}.request").read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return first.split()[1], {"x-request-id": headers["x-request-id"]}, body


def response(name):
    """Status, headers and body of a recorded response, its chunks joined."""
    head, _, body = (RAW / f"{name}.response").read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    if "transfer-encoding" in headers:
        body = b"".join(_chunks(body))
    return int(first.split()[1]), headers, body


def _chunks(body):
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return
        yield body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


def shape(value):
    """Keys in their order and the types of values; of a list, the different shapes of its items."""
    if isinstance(value, dict):
        # A token without text has no bytes; that is no other shape.
        return {key: "bytes" if key == "bytes" else shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return _different(map(shape, value))
    return type(value).__name__


def stream_shape(body):
    """The different shapes of a stream's events, in the order of their first appearance."""
    events = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    payloads = [event.removeprefix("data: ") for event in events]
    return _different(
        payload if payload == "[DONE]" else ordered(json.loads(payload)) for payload in payloads
    )


def ordered(value):
    """`shape` as text, so that the order of keys counts when compared."""
    return json.dumps(shape(value))


def _different(items):
    return [json.loads(item) for item in dict.fromkeys(map(json.dumps, items))]
