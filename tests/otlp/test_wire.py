"""Reading answers of receivers, whatever they send."""

from __future__ import annotations

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from driftline.otlp.sender import Outcome, accepted
from driftline.otlp.wire import fields, varint

PARTIAL = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=300, error_message="too old")
).SerializeToString()


@given(st.integers(0, 2**64 - 1))
def test_numbers_come_back(number: int) -> None:
    assert list(fields(b"\x08" + varint(number))) == [(1, number)]


def test_fields_are_those_that_protobuf_wrote() -> None:
    assert list(fields(Status(code=3, message="no").SerializeToString())) == [(1, 3), (2, b"no")]


def test_a_partial_success_says_how_many_and_why() -> None:
    assert accepted(PARTIAL) == Outcome(delivered=True, rejected=300, reason="too old")
    assert accepted(b"") == Outcome(delivered=True)


@pytest.mark.parametrize("size", range(len(PARTIAL)))
def test_an_answer_cut_anywhere_is_still_a_success(size: int) -> None:
    assert accepted(PARTIAL[:size]).delivered


@given(st.binary(max_size=60))
def test_an_answer_of_anything_is_still_a_success(content: bytes) -> None:
    assert accepted(content).delivered
