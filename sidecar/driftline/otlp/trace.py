"""Spans: OpenTelemetry's data model, and its form on the wire.

Field numbers are those of opentelemetry-proto's `trace/v1/trace.proto`.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from driftline.otlp.wire import (
    Attributes,
    attributes,
    binary,
    fixed32,
    fixed64,
    integer,
    message,
    text,
)


class SpanKind(IntEnum):
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class StatusCode(IntEnum):
    UNSET = 0
    OK = 1
    ERROR = 2


HAS_IS_REMOTE = 0x100
IS_REMOTE = 0x200
"""Bits of `Span.flags`: whether the parent's origin is known, and that it is another process."""


class Event(msgspec.Struct, kw_only=True):
    name: str
    time: int
    """Nanoseconds since the epoch, as all times here."""
    attributes: Attributes = {}
    dropped_attributes: int = 0


class Link(msgspec.Struct, kw_only=True):
    trace_id: bytes
    span_id: bytes
    trace_state: str = ""
    attributes: Attributes = {}
    dropped_attributes: int = 0
    flags: int = 0


class Span(msgspec.Struct, kw_only=True):
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes = b""
    trace_state: str = ""
    flags: int = 0
    name: str
    kind: SpanKind = SpanKind.INTERNAL
    start: int
    end: int
    attributes: Attributes = {}
    dropped_attributes: int = 0
    events: list[Event] = []
    dropped_events: int = 0
    links: list[Link] = []
    dropped_links: int = 0
    status: StatusCode = StatusCode.UNSET
    status_message: str = ""


def encode(span: Span) -> bytes:
    """One element of `Envelope.request`. Raises `OverflowError` for an integer that does not fit its field."""
    status = text(2, span.status_message) + integer(3, span.status)
    content = (
        binary(1, span.trace_id)
        + binary(2, span.span_id)
        + text(3, span.trace_state)
        + binary(4, span.parent_span_id)
        + text(5, span.name)
        + integer(6, span.kind)
        + fixed64(7, span.start)
        + fixed64(8, span.end)
        + attributes(9, span.attributes)
        + integer(10, span.dropped_attributes)
        + (_events(span) if span.events or span.dropped_events else b"")
        + (_links(span) if span.links or span.dropped_links else b"")
        + message(15, status)
        + fixed32(16, span.flags)
    )
    return message(2, content)


def _events(span: Span) -> bytes:
    return b"".join([message(11, _event(event)) for event in span.events]) + integer(12, span.dropped_events)


def _links(span: Span) -> bytes:
    return b"".join([message(13, _link(link)) for link in span.links]) + integer(14, span.dropped_links)


def _event(event: Event) -> bytes:
    return (
        fixed64(1, event.time)
        + text(2, event.name)
        + attributes(3, event.attributes)
        + integer(4, event.dropped_attributes)
    )


def _link(link: Link) -> bytes:
    return (
        binary(1, link.trace_id)
        + binary(2, link.span_id)
        + text(3, link.trace_state)
        + attributes(4, link.attributes)
        + integer(5, link.dropped_attributes)
        + fixed32(6, link.flags)
    )
