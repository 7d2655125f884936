"""What an application may say about its trace to Langfuse, in W3C baggage (https://www.w3.org/TR/baggage/)."""

from __future__ import annotations

from driftline import baggage
from driftline.tracing import semconv

_LONGEST = 200
_MOST = 16
_WHOLE = frozenset({semconv.LANGFUSE_TRACE_NAME, semconv.LANGFUSE_TRACE_TAGS})


def langfuse_attributes(header: str) -> dict[str, str | list[str]]:
    """`langfuse.trace.name`, `.tags` (comma-separated) and `.metadata.*` from a `baggage` header.

    Values are percent-decoded and cut at 200 characters, at most 16 are taken; anything else is left alone.
    In particular no `langfuse.observation.*`: what a span measured is not for a client to say.
    """
    attributes: dict[str, str | list[str]] = {}
    if "langfuse." not in header:
        return attributes
    for key, said in baggage.members(header):
        if key not in _WHOLE and not key.startswith(semconv.LANGFUSE_METADATA):
            continue
        value = said[:_LONGEST]
        if value and len(attributes) < _MOST:
            tags = [tag for part in value.split(",") if (tag := part.strip())]
            attributes[key] = tags if key == semconv.LANGFUSE_TRACE_TAGS else value
    return attributes
