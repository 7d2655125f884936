"""The failures that gateways of this field were reported for, by what their users saw: where each is tested.

A point whose test stands elsewhere is only named here; the tests that follow are those with no better place. The
sidecar as a whole is in tests/test_failures.py.
"""

from __future__ import annotations

import ast
import socket
from functools import cache
from pathlib import Path

import pytest

from tests.relay.rig import rig

ROOT = Path(__file__).parents[2]
HERE = "tests/relay/test_failures.py"
SIDECAR = "tests/test_failures.py"
FAILURES: dict[int, tuple[str, list[str]]] = {
    1: (
        "a stream's client is gone and the engine goes on generating",
        ["tests/relay/test_relay.py::test_a_client_that_leaves_stops_the_upstream"],
    ),
    2: (
        "the same without streaming",
        [
            f"{HERE}::test_2_a_client_that_waits_for_a_whole_reply_and_leaves_stops_the_upstream",
            "tests/relay/test_limits.py::test_a_body_cut_by_the_client_closes_the_upstream",
        ],
    ),
    3: (
        "a client leaves before the body is first iterated",
        ["tests/relay/test_relay.py::test_a_client_that_leaves_stops_the_upstream"],
    ),
    4: (
        "30 streams of 5 MiB dropped together block everything until readiness fails",
        [f"{SIDECAR}::test_4_streams_dropped_together_leave_it_ready"],
    ),
    5: (
        "a client closes after the last event but before the end: its usage is lost",
        [
            "tests/relay/test_streams.py::test_a_client_that_closes_after_done_has_seen_a_complete_stream",
            "tests/relay/test_edges.py::test_a_responses_stream_is_complete_when_its_client_closes_after_the_last_event",
        ],
    ),
    6: (
        "long streams whose client leaves are not measured",
        [f"{SIDECAR}::test_6_every_long_stream_whose_client_leaves_is_measured"],
    ),
    7: (
        "usage was asked for on the client's behalf and the extra event is not cut out",
        ["tests/relay/test_streams.py::test_usage_is_had_without_the_client_seeing_it"],
    ),
    8: (
        "usage in an event with choices is counted twice",
        ["tests/dialects/test_openai_chat.py::test_usage_beside_choices_is_counted_once"],
    ),
    9: (
        "no cached tokens is taken for unknown, or cached tokens are counted twice",
        [
            "tests/dialects/test_openai_chat.py::test_usage",
            "tests/cost/test_prices.py::test_what_a_call_costs",
            "tests/tracing/test_spans.py::test_usage_buckets_share_no_token",
        ],
    ),
    10: ("streamed calls have no cost", [f"{SIDECAR}::test_10_every_streamed_call_has_a_cost"]),
    11: (
        "a model without a price costs $0, or what somebody guessed",
        [f"{SIDECAR}::test_11_a_model_without_a_price_has_no_cost_anywhere"],
    ),
    12: (
        "the engine's span is beside the gateway's, not under it",
        [
            "tests/relay/test_relay.py::test_a_request_arrives_as_it_was_sent",
            f"{HERE}::test_13_embeddings_carry_their_trace_on",
            "tests/stack/test_traces.py::test_vllms_span_hangs_under_ours_and_ours_under_the_applications",
        ],
    ),
    13: (
        "`traceparent` is lost on embeddings",
        [f"{HERE}::test_13_embeddings_carry_their_trace_on"],
    ),
    14: (
        "a request has two root spans, or a span whose parent nobody sent",
        [f"{SIDECAR}::test_14_each_request_is_one_span_and_no_span_is_an_orphan"],
    ),
    15: (
        "application and gateway both trace, and tokens are counted twice",
        [f"{SIDECAR}::test_15_an_application_that_traces_itself_does_not_count_tokens_twice"],
    ),
    16: (
        "the span of an abandoned stream never ends",
        [f"{SIDECAR}::test_16_the_span_of_an_abandoned_stream_ends"],
    ),
    17: (
        "the telemetry store is down and memory grows",
        [
            "tests/relay/test_channel.py::test_a_slow_observer_costs_records_and_never_memory",
            "tests/tracing/test_export.py::test_batches_and_queue_are_bounded_in_bytes",
        ],
    ),
    18: (
        "spans were acknowledged and are lost",
        [f"{SIDECAR}::test_18_what_counts_as_exported_is_what_the_backends_have"],
    ),
    19: (
        "`Content-Encoding` names a compression that was undone",
        ["tests/relay/test_relay.py::test_a_response_arrives_as_it_was_sent"],
    ),
    20: ("memory grows with every stream", [f"{SIDECAR}::test_20_memory_is_flat_under_streams"]),
    21: (
        "a step of 40 ms in the time to the first token",
        [
            f"{HERE}::test_21_small_writes_never_wait_for_an_acknowledgement",
            "tests/relay/test_relay.py::test_a_chunk_is_passed_on_before_the_next_one_exists",
        ],
    ),
    22: (
        "an error inside a stream under status 200 is taken for success",
        ["tests/dialects/test_outcome.py::test_how_a_stream_ended"],
    ),
    23: (
        "a 502 now and then after a quiet spell",
        [
            "tests/relay/test_relay.py::test_an_idle_connection_the_server_closes_is_not_used_again",
            "tests/relay/test_edges.py::test_a_connection_the_server_has_closed_is_not_used_even_when_nobody_looked_yet",
        ],
    ),
    24: (
        "`system_fingerprint` is cut out with the usage",
        [
            "tests/relay/test_usage.py::test_system_fingerprint_goes_back_to_the_finish_event",
            "tests/relay/test_streams.py::test_usage_is_had_without_the_client_seeing_it",
        ],
    ),
}
"""What the user saw, and the tests that it cannot happen here."""


@cache
def defined_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")}


def test_all_of_them_are_here():
    assert list(FAILURES) == list(range(1, 25))


@pytest.mark.parametrize(("user_sees", "tests"), FAILURES.values(), ids=map(str, FAILURES))
def test_each_has_its_tests(user_sees, tests):
    """A test that is renamed or deleted must not leave its point without one."""
    assert tests, user_sees
    for test in tests:
        path, _, name = test.partition("::")
        assert name in defined_in(path), test


async def test_2_a_client_that_waits_for_a_whole_reply_and_leaves_stops_the_upstream():
    """Nothing is streamed and the first byte is minutes away: the engine is told at once all the same."""
    body = b'{"model":"m","messages":[]}'
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        upstream = await r.upstream.accepts()
        assert (await upstream.reads_request())[1] == body
        client.closes()
        await upstream.sees_the_end()
        assert (await r.records.one()).outcome == "client_closed"


async def test_13_embeddings_carry_their_trace_on():
    """The upstream gets a child of the application's context, under the span that the record is of."""
    body = b'{"model":"m","input":"sea"}'
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        upstream = await r.upstream.accepts()
        head, _ = await upstream.reads_request()
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        record = await r.records.one()
        sent = b"traceparent: 00-%b-%b-01\r\n" % (
            record.trace_id.hex().encode(),
            record.span_id.hex().encode(),
        )
        assert sent in head
        assert (record.trace_id.hex(), record.parent_span_id.hex()) == (
            "0af7651916cd43dd8448eb211c80319c",
            "b7ad6b7169203331",
        )


async def test_21_small_writes_never_wait_for_an_acknowledgement():
    """Nagle's algorithm and delayed acknowledgements together make a step of 40 ms; it is off on both sides."""
    async with rig() as r:
        client, upstream = await r.asks(b"GET /v1/models HTTP/1.1\r\nHost: s\r\n\r\n")
        (connection,) = r.relay.clients
        sides = connection.transport, connection._current.upstream.transport
        assert [without_delay(side) for side in sides] == [True, True]
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await client.reads_until(b"ok")


def without_delay(transport):
    option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return option != 0
