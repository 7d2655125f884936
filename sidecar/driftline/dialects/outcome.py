"""How a call ended, as `error.type`: a small set of words, never a message."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from driftline.call import Call
from driftline.dialects.wire import Shape


class ErrorDetail(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class ErrorReply(msgspec.Struct):
    """The forms in use: `{"error": {…}}` (OpenAI, vLLM), `{"object": "error", …}` (older vLLM), and
    `{"detail": …}` (FastAPI).
    """

    error: ErrorDetail | str | None = None
    object: str | None = None
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    detail: Any = None

    @property
    def found(self) -> ErrorDetail | None:
        if isinstance(self.error, str):
            return ErrorDetail(message=self.error)
        if self.error is not None:
            return self.error
        if self.object == "error":
            return ErrorDetail(self.message, self.type, self.code)
        return ErrorDetail(message=self.detail) if isinstance(self.detail, str) else None


ERROR_REPLY = Shape(ErrorReply)

_MESSAGE = 1000
"""Characters kept of a server's message: it may quote the whole request."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")


def settle(call: Call, *, finished: bool, error: ErrorDetail | str | None = None) -> None:
    """Set the error of `call`, if it ended in one.

    `finished`: the reply reached its end. `error`: what the server said, by status or in a stream under 200.

    - What we did instead of the server comes first: `timeout`, `upstream_unreachable`, `upstream_failed`,
      `bad_request`, `drained`.
    - Then what the server said: a `code` or else `type` that looks like a name (`model_not_found`,
      `BadRequestError`), or else the status (`404`).
    - Then how the bytes ended: `upstream_broken`; `client_closed`, unless the reply was finished by then;
      `incomplete_stream` for a stream read whole that has neither finish reason nor `[DONE]`.
    """
    if isinstance(error, str):
        error = ErrorDetail(message=error)
    exchange = call.exchange
    outcome = exchange.outcome
    if outcome not in ("complete", "client_closed", "upstream_broken"):
        call.error_type, call.error_message = outcome, exchange.error or None
    elif error is not None or exchange.status >= 400:
        call.error_type = _name(error) or (str(exchange.status) if exchange.status >= 400 else "_OTHER")
        call.error_message = error.message[:_MESSAGE] if error and error.message else None
    elif outcome == "upstream_broken" or (outcome == "client_closed" and not finished):
        call.error_type, call.error_message = outcome, exchange.error or None
    elif exchange.stream and not finished and not _partly_read(call):
        call.error_type = "incomplete_stream"


def _partly_read(call: Call) -> bool:
    return call.truncated_record or "response_encoding" in call.unread


def _name(error: ErrorDetail | None) -> str | None:
    for candidate in (error.code, error.type) if error else ():
        if isinstance(candidate, str) and _WORD.fullmatch(candidate):
            return candidate
    return None
