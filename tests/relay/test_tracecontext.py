"""Trace context is read strictly and written so that others read it back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from driftline.relay.tracecontext import (
    TraceParent,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"
PARSED = TraceParent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1)

ids16 = st.binary(min_size=16, max_size=16).filter(any)
ids8 = st.binary(min_size=8, max_size=8).filter(any)


@pytest.mark.parametrize(
    "value",
    [VALID, VALID.encode(), f" {VALID}\t", f"01-{TRACE}-{SPAN}-01", f"fe-{TRACE}-{SPAN}-01-and-more"],
)
def test_reads_what_is_valid(value: str | bytes) -> None:
    """Also a version from the future, of which the known part is read."""
    assert parse_traceparent(value) == PARSED


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        VALID + "-",
        VALID + "0",
        VALID + "-more",
        VALID.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00_{TRACE}_{SPAN}_01",
        f"01-{TRACE}-{SPAN}-01x",
        f"00-{TRACE}-{SPAN}-01,{VALID}",
        f"00-{TRACE}-{SPAN}-\u0660\u0661",
        VALID + "\n",
    ],
)
def test_what_is_not_valid_is_absent(value: str) -> None:
    assert parse_traceparent(value) is None


def test_cut_anywhere_it_is_absent() -> None:
    assert [parse_traceparent(VALID[:n]) for n in range(len(VALID))] == [None] * len(VALID)


def test_flags_that_level_2_does_not_define_are_cleared() -> None:
    parsed = parse_traceparent(f"00-{TRACE}-{SPAN}-ff")
    assert parsed is not None
    assert parsed.flags == 3


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_never_raises(value: bytes | str) -> None:
    parsed = parse_traceparent(value)
    if parsed is not None:
        assert parse_traceparent(format_traceparent(*parsed)) == parsed
    parse_tracestate(value)


@given(ids16, ids8, st.integers(0, 3))
def test_what_is_written_is_read_by_us_and_by_the_sdk(trace_id: bytes, span_id: bytes, flags: int) -> None:
    written = format_traceparent(trace_id, span_id, flags)
    assert parse_traceparent(written) == TraceParent(trace_id, span_id, flags)

    context = TraceContextTextMapPropagator().extract({"traceparent": written.decode()})
    seen = trace.get_current_span(context).get_span_context()
    assert (seen.trace_id, seen.span_id) == (int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"))


def test_ids_are_new_and_of_the_right_size() -> None:
    traces = {new_trace_id() for _ in range(1000)}
    spans = {new_span_id() for _ in range(1000)}
    assert {len(i) for i in traces} == {16}
    assert {len(i) for i in spans} == {8}
    assert (len(traces), len(spans)) == (1000, 1000)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ((), ""),
        (("",), ""),
        (("a=1",), "a=1"),
        (("a=1, b=2",), "a=1,b=2"),
        (("a=1", "b=2"), "a=1,b=2"),
        ((b"tenant@vendor=x y",), "tenant@vendor=x y"),
        (("a=1,,b=2",), "a=1,b=2"),
        (("a=1,a=2",), ""),
        (("a=1,B=2",), ""),
        (("a=1,b",), ""),
        (("a=b=c",), ""),
        (("a=\x7f",), ""),
        (("a=é",), ""),
        ((",".join(f"k{i}=v" for i in range(32)),), ",".join(f"k{i}=v" for i in range(32))),
        ((",".join(f"k{i}=v" for i in range(33)),), ""),
        (("a=" + "v" * 256,), "a=" + "v" * 256),
        (("a=" + "v" * 257,), ""),
    ],
)
def test_tracestate_is_kept_whole_or_dropped_whole(values: tuple[str | bytes, ...], state: str) -> None:
    assert parse_tracestate(*values) == state
