"""What was said: whether it is recorded at all, and how much of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import msgspec

from driftline.call import Call
from driftline.settings import Settings
from driftline.tracing import semconv
from driftline.tracing.truncate import fit

log = logging.getLogger(__name__)

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CAPTURE_HEADER = "x-driftline-capture"

_ON = {"true": True, "span_only": True, "span_and_event": True}
_OFF = {"": False, "false": False, "no_content": False, "event_only": False}
_WORDS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


class CaptureSettings(Settings, frozen=True, kw_only=True):
    content: bool | Literal["by_request"] | None = None
    """Record messages and tool definitions. `by_request`: only where the header `x-driftline-capture: true`
    asks for it. Left out: as `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says, and off without it.
    The header with `false` always switches it off."""
    max_bytes: int = 64 * 1024
    """The most that one span carries of it; longer texts are cut and marked with their length."""

    def __post_init__(self) -> None:
        if not 1024 <= self.max_bytes <= 1024 * 1024:
            raise ValueError(f"max_bytes is {self.max_bytes}; it goes from 1024 to 1048576 (1 MiB)")


class Capture:
    """Decides per call, and encodes."""

    def __init__(self, settings: CaptureSettings, environ: Mapping[str, str]) -> None:
        wanted = settings.content
        self._by_default = _from_env(environ) if wanted is None else wanted is True
        self._on_request = self._by_default or wanted == "by_request"
        self._max_bytes = settings.max_bytes

    def wants(self, call: Call) -> bool:
        """Whether this call's content is recorded."""
        if not self._on_request:
            return False
        asked = next((value for name, value in call.exchange.request_headers if name == CAPTURE_HEADER), None)
        return _WORDS.get(asked.strip().lower(), False) if asked is not None else self._by_default

    def attributes(self, call: Call, longest: int | None = None) -> dict[str, str | int]:
        """Content attributes: JSON strings in the conventions' message schema, each at most `longest` bytes
        and together at most `max_bytes`.

        One that had to be cut comes with its original size. What the call does not have is absent.
        """
        documents = {
            name: msgspec.json.encode(value)
            for name, value in (
                (semconv.SYSTEM_INSTRUCTIONS, call.system_instructions),
                (semconv.INPUT_MESSAGES, call.input_messages),
                (semconv.OUTPUT_MESSAGES, call.output_messages),
                (semconv.TOOL_DEFINITIONS, call.tools),
            )
            if value
        }
        attributes: dict[str, str | int] = {}
        left = self._max_bytes
        # Small ones first: what they leave of their share is the large ones' to use.
        for i, (name, document) in enumerate(sorted(documents.items(), key=lambda item: len(item[1]))):
            share = left // (len(documents) - i)
            fitted = fit(document, share if longest is None else min(share, longest))
            if fitted is not None:
                attributes[name] = fitted.decode()
                left -= len(fitted)
            if fitted is not document:
                attributes[semconv.CONTENT_ORIGINAL_BYTES + name] = len(document)
        return attributes


def _from_env(environ: Mapping[str, str]) -> bool:
    """As the conventions' own instrumentation reads it; we record content on spans, not in events."""
    value = environ.get(CAPTURE_VARIABLE, "").strip().lower()
    known = _ON | _OFF
    if value not in known:
        log.warning("%s is %r; known are %s: content is not recorded", CAPTURE_VARIABLE, value, sorted(known))
    return known.get(value, False)
