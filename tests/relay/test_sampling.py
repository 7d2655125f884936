"""The relay's samplers decide exactly as the OpenTelemetry SDK's."""

from __future__ import annotations

import random

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import sampling

from driftline.relay.sampling import Sampler

RATIOS = ("0", "1e-9", "0.1", "0.5", "0.999999", "1", "1.0")


def sdk_sampler(name: str, ratio: str | None) -> sampling.Sampler:
    known = sampling._KNOWN_SAMPLERS[name]
    return known if isinstance(known, sampling.Sampler) else known(float(ratio or 1))


def sdk_decides(sampler: sampling.Sampler, trace_id: bytes, parent_flags: int | None) -> bool:
    context = None
    number = int.from_bytes(trace_id, "big")
    if parent_flags is not None:
        parent = trace.SpanContext(number, 1, is_remote=True, trace_flags=trace.TraceFlags(parent_flags))
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    return sampler.should_sample(context, number, "chat m").decision.is_sampled()


@pytest.mark.parametrize("name", sorted(sampling._KNOWN_SAMPLERS))
@pytest.mark.parametrize("ratio", [*RATIOS, None])
def test_decides_as_the_sdk_does(name: str, ratio: str | None) -> None:
    """For every standard sampler, random ids, and no parent, a sampled one and one that is not."""
    environ = {"OTEL_TRACES_SAMPLER": name} | ({"OTEL_TRACES_SAMPLER_ARG": ratio} if ratio else {})
    ours, theirs = Sampler.from_env(environ), sdk_sampler(name, ratio)
    ids = random.Random(7)
    cases = [(ids.randbytes(16), flags) for _ in range(100) for flags in (None, 0, 1, 2, 3)]
    edge = round(float(ratio or 1) * 2**64)
    cases += [
        (i.to_bytes(16, "big"), None) for i in (1, edge - 1, edge, edge + 1, 2**64 - 1) if 0 < i < 2**128
    ]

    assert [ours.sampled(*case) for case in cases] == [sdk_decides(theirs, *case) for case in cases]


def test_is_parentbased_always_on_when_nothing_is_set() -> None:
    assert Sampler.from_env({}) == Sampler.from_env({"OTEL_TRACES_SAMPLER": "parentbased_always_on"})
    assert Sampler.from_env({"OTEL_TRACES_SAMPLER": ""}) == Sampler()


def test_a_ratio_keeps_its_share_of_traces() -> None:
    sampler = Sampler.from_env({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    ids = random.Random(11)
    kept = sum(sampler.sampled(ids.randbytes(16), None) for _ in range(20_000))
    assert kept == 5014


@pytest.mark.parametrize("name", ["jaeger_remote", "xray", "parentbased_jaeger_remote", "nonsense"])
def test_other_samplers_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"OTEL_TRACES_SAMPLER is '{name}'; known are always_on"):
        Sampler.from_env({"OTEL_TRACES_SAMPLER": name})


@pytest.mark.parametrize("ratio", ["1.1", "-0.1", "ten", "nan", "inf"])
def test_a_ratio_that_is_none_is_refused(ratio: str) -> None:
    with pytest.raises(ValueError, match=f"OTEL_TRACES_SAMPLER_ARG is '{ratio}'; write a share"):
        Sampler.from_env({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio})
