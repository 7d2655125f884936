"""Exchanges, from recordings of vLLM and made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from driftline.exchange import Body, Exchange

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = sorted(str(path.relative_to(RECORDINGS).with_suffix("")) for path in RECORDINGS.rglob("*.response"))
STREAMS = [name for name in NAMES if "stream" in name and "responses" not in name]
"""Of chat completions and completions."""

Json = dict[str, Any]


def exchange(path: str = "/v1/chat/completions", **fields: Any) -> Exchange:
    """What the relay would write of a request that went well. Bodies may be given as bytes or as JSON values."""
    for name in ("request_body", "response_body"):
        value = fields.get(name, b"")
        if not isinstance(value, Body):
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            fields[name] = Body(content, b"", len(content))
    defaults: Json = {
        "trace_id": bytes(16),
        "span_id": bytes(8),
        "method": "POST",
        "target": path,
        "status": 200,
        "outcome": "complete",
        "received_at": 0,
    }
    return Exchange(**(defaults | fields))


def stream(*events: Json | str, done: bool = True) -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return b"".join(f"data: {line}\n\n".encode() for line in [*lines, *(["[DONE]"] if done else [])])


def recorded(name: str, **changes: Any) -> Exchange:
    """A recording as the relay would write it. `name`: `python-frontend/chat-stream`, say."""
    request_line, request_body = _message((RECORDINGS / f"{name}.request").read_bytes())
    status_line, response_body = _message((RECORDINGS / f"{name}.response").read_bytes())
    fields: Json = {
        "request_body": request_body,
        "response_body": response_body,
        "status": int(status_line.split()[1]),
        "stream": "stream" in name,
    }
    return exchange(request_line.split()[1].decode(), **(fields | changes))


def _message(raw: bytes) -> tuple[bytes, bytes]:
    """First line, and body without its chunks' framing."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    if any(field.lower() == b"transfer-encoding: chunked" for field in fields):
        body = b"".join(_chunks(body))
    return first, body


def _chunks(body: bytes) -> list[bytes]:
    chunks = []
    while True:
        size_line, _, body = body.partition(b"\r\n")
        size = int(size_line, 16)
        if size == 0:
            return chunks
        chunks.append(body[:size])
        body = body[size + 2 :]
