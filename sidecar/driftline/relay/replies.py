"""Replies of the relay's own: errors in the shape OpenAI's clients parse, and the two health paths."""

from __future__ import annotations

import json
from http import HTTPStatus

from driftline.relay.headers import Fields, head


def error_reply(status: int, message: str, *, kind: str, code: str, fields: Fields | None = None) -> bytes:
    """A whole response with `{"error": {"message", "type", "param", "code"}}`; the connection closes after it."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
    return reply(status, body, b"application/json", [*(fields or []), (b"Connection", b"close")])


def reply(status: int, body: bytes, content_type: bytes, fields: Fields | None = None) -> bytes:
    phrase = HTTPStatus(status).phrase.encode()
    return (
        head(
            b"HTTP/1.1 %d %b" % (status, phrase),
            [(b"Content-Type", content_type), (b"Content-Length", b"%d" % len(body)), *(fields or [])],
        )
        + body
    )
