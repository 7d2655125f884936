"""What calls add to the metrics, to the last unit."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from driftline.call import Attribution, Call, Cost, Usage
from driftline.metrics import Metrics
from tests.metrics.sources import empty
from tests.tracing.calls import bare, chat, exchange


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Of the one sample with these labels; None where there is none."""
    body, _ = metrics.exposition()
    found = [
        sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def observed(*calls: Call, **options: object) -> Metrics:
    metrics = empty(**options)  # type: ignore[arg-type]
    for call in calls:
        metrics.observe(call)
    return metrics


def test_durations_and_tokens_are_the_calls() -> None:
    metrics = observed(chat(), chat())
    assert value(metrics, "gen_ai_client_operation_duration_seconds_sum") == 4.0
    assert value(metrics, "gen_ai_client_operation_duration_seconds_bucket", le="1.28") == 0
    assert value(metrics, "gen_ai_client_operation_duration_seconds_bucket", le="2.56") == 2
    assert value(metrics, "gen_ai_client_token_usage_sum", gen_ai_token_type="input") == 200
    assert value(metrics, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 58
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_sum") == 1.0
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_bucket", le="0.5") == 2
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_bucket", le="0.25") == 0
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_sum") == 2 * 1.4 / 28


def test_the_labels_are_the_conventions() -> None:
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "vllm",
        "gen_ai_request_model": "llama",
        "gen_ai_response_model": "llama-3.1",
        "server_address": "gpu-7.example",
        "server_port": "8000",
        "error_type": "",
    }
    assert value(observed(chat()), "gen_ai_client_operation_duration_seconds_count", **labels) == 1


def test_an_error_has_a_duration_and_no_latency() -> None:
    """Time to first token of a failure is no measure of the engine."""
    metrics = observed(chat(error_type="upstream_broken"))
    name = "gen_ai_client_operation_duration_seconds_count"
    assert value(metrics, name, error_type="upstream_broken") == 1
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count") == 0
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_count") == 0


def test_tokens_nobody_counted_are_not_zero() -> None:
    metrics = observed(bare())
    assert value(metrics, "gen_ai_client_token_usage_count", gen_ai_token_type="input") == 0


def test_embeddings_have_no_output_tokens() -> None:
    metrics = observed(bare(operation="embeddings", usage=Usage(input_tokens=5, output_tokens=0)))
    assert value(metrics, "gen_ai_client_token_usage_sum", gen_ai_token_type="input") == 5
    assert value(metrics, "gen_ai_client_token_usage_count", gen_ai_token_type="output") == 0


def test_signals_are_counted_by_what_they_found() -> None:
    metrics = observed(
        bare(signals={"refusal": True}),
        bare(signals={"refusal": False, "language": "de", "toxicity": 0.3}),
        bare(
            signals={"refusal": False}, unread=["request_not_json"], exchange=exchange(usage="not_requested")
        ),
    )
    name = "driftline_quality_total"
    assert value(metrics, name, signal="refusal", outcome="true") == 1
    assert value(metrics, name, signal="refusal", outcome="false", variant="") == 1
    assert value(metrics, name, signal="refusal", outcome="false", variant="canary") == 1
    assert value(metrics, name, signal="language", outcome="de") == 1
    assert value(metrics, name, signal="toxicity") is None
    assert value(metrics, name, signal="unread", outcome="request_not_json") == 1
    assert value(metrics, name, signal="usage", outcome="not_requested") == 1


def test_cost_is_summed_in_integers() -> None:
    """A million calls of one nano-dollar are a tenth of a cent, exactly; as floats they would not be."""
    call = bare(cost=Cost(input=1, cached=0, output=3), attribution=Attribution(team="search"))
    metrics = empty()
    for _ in range(10_000):
        metrics.observe(call)
    labels = {"team": "search", "product": "__unattributed__", "feature": "__unattributed__"}
    assert value(metrics, "driftline_cost_usd_total", kind="input", **labels) == 0.00001
    assert value(metrics, "driftline_cost_usd_total", kind="output", **labels) == 0.00003
    assert value(metrics, "driftline_cost_usd_total", kind="cached", **labels) == 0


def test_an_unpriced_call_has_no_cost() -> None:
    assert value(observed(bare(signals={"unpriced": True})), "driftline_cost_usd_total") is None


def test_overhead_is_counted_by_phase() -> None:
    """Chunks count one each: the sum is exact, their bucket that of the stream's mean."""
    metrics = empty()
    metrics.relayed(
        exchange(overhead_request=150_000, overhead_first_byte=-1, overhead_chunks=200_000, reads=10)
    )
    name = "driftline_relay_overhead_seconds"
    assert value(metrics, f"{name}_sum", phase="request") == 0.00015
    assert value(metrics, f"{name}_count", phase="first_byte") == 0
    assert value(metrics, f"{name}_count", phase="chunk") == 10
    assert value(metrics, f"{name}_sum", phase="chunk") == 0.0002
    assert value(metrics, f"{name}_bucket", phase="chunk", le="1e-05") == 0
    assert value(metrics, f"{name}_bucket", phase="chunk", le="2e-05") == 10


def test_labels_that_clients_write_are_bounded_and_the_fold_is_counted() -> None:
    calls = [
        chat(request_model=f"m{i}", response_model=None, attribution=Attribution(team=f"t{i}"))
        for i in range(10)
    ]
    metrics = observed(*calls, label_values=3)
    name = "gen_ai_client_operation_duration_seconds_count"
    assert [value(metrics, name, gen_ai_request_model=f"m{i}") for i in range(4)] == [1, 1, 1, None]
    assert value(metrics, name, gen_ai_request_model="__other__") == 7
    assert value(metrics, "driftline_cost_usd_total", kind="input", team="__other__") is not None
    folded = value(metrics, "driftline_telemetry_dropped_total", signal="metrics", reason="label_folded")
    assert folded == 7 * 3  # the model twice, the team once


def test_a_model_that_a_client_made_up_takes_no_place() -> None:
    refused = [
        bare(request_model=f"made-up-{i}", error_type="NotFoundError", exchange=exchange(status=404))
        for i in range(10)
    ]
    metrics = observed(*refused, chat(request_model="real", response_model=None), label_values=2)
    name = "gen_ai_client_operation_duration_seconds_count"
    assert value(metrics, name, gen_ai_request_model="__other__") == 10
    assert value(metrics, name, gen_ai_request_model="real") == 1
