"""The shipped Collector configuration, run by the Collector that its manifest builds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from tests.stack.components import required
from tests.stack.components.collector import Collector
from tests.stack.components.langfuse import LangfuseReceiver
from tests.stack.components.process import free_ports, wait_until

DIRECTORY = Path(__file__).parents[2] / "collector-config"
CONFIGURATIONS = sorted(set(DIRECTORY.glob("*.yaml")) - {DIRECTORY / "builder.yaml"})

MODULES = {  # component as configured → last part of its Go module
    "otlp": "otlpreceiver",
    "memory_limiter": "memorylimiterprocessor",
    "transform": "transformprocessor",
    "otlp_http": "otlphttpexporter",
    "file": "fileexporter",
    "prometheus": "prometheusexporter",
    "file_storage": "filestorage",
    "health_check": "healthcheckextension",
}


def send_span(collector: Collector, name: str, attributes: dict[str, str | int]) -> None:
    """One span, acknowledged by the Collector."""
    provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
    exporter = OTLPSpanExporter(endpoint=collector.traces_endpoint)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("test").start_span(name, kind=SpanKind.CLIENT, attributes=attributes).end()
    provider.shutdown()


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda file: file.name)
def test_configuration_is_valid(file: Path) -> None:
    """`validate` of the built Collector takes every configuration, with no variable set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR_")}
    done = subprocess.run(
        [required.collector_binary(), "validate", "--config", file],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_manifest_has_exactly_the_modules_in_use() -> None:
    """The builder manifest lists what the configurations use, and no more."""
    used = set()
    for file in CONFIGURATIONS:
        configuration = yaml.safe_load(file.read_text())
        for kind in ("receivers", "processors", "exporters", "extensions"):
            used |= {name.partition("/")[0] for name in configuration.get(kind, {})}
    manifest = yaml.safe_load((DIRECTORY / "builder.yaml").read_text())
    listed = {
        entry["gomod"].split()[0].rpartition("/")[2]
        for kind in ("receivers", "processors", "exporters", "extensions")
        for entry in manifest[kind]
    }
    assert listed == {MODULES[name] for name in used}


def test_spans_reach_file_and_langfuse(collector: Collector, langfuse: LangfuseReceiver) -> None:
    """A span arrives at both outputs as it was sent."""
    send_span(collector, "chat tiny", {"gen_ai.request.model": "tiny", "gen_ai.usage.input_tokens": 14})

    def of(spans):
        return [span for span in spans if span.name == "chat tiny" and span.scope == "test"]

    [in_file] = wait_until(lambda: of(collector.spans()))
    [in_langfuse] = wait_until(lambda: of(langfuse.spans))
    assert in_file == in_langfuse
    assert in_file.attributes == {"gen_ai.request.model": "tiny", "gen_ai.usage.input_tokens": 14}
    assert in_file.resource["service.name"] == "test"


def test_usage_of_vllms_own_span_stays_out_of_langfuse(
    collector: Collector, langfuse: LangfuseReceiver
) -> None:
    """Tokens are counted once: on the way to Langfuse, `llm_request` loses its usage and its model."""
    attributes = {
        "gen_ai.usage.prompt_tokens": 14,
        "gen_ai.usage.completion_tokens": 5,
        "gen_ai.response.model": "tiny",
        "gen_ai.latency.time_in_queue": 1,
    }
    send_span(collector, "llm_request", attributes)

    def of(spans):
        return [span for span in spans if span.name == "llm_request" and span.scope == "test"]

    [in_file] = wait_until(lambda: of(collector.spans()))
    [in_langfuse] = wait_until(lambda: of(langfuse.spans))
    assert in_file.attributes == attributes
    assert in_langfuse.attributes == {"gen_ai.latency.time_in_queue": 1, "langfuse.observation.type": "span"}


def test_metrics_keep_their_names_and_labels_on_the_way_to_prometheus(collector: Collector) -> None:
    """What is exported over OTLP is scraped under the name and the labels that /metrics shows."""
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"{collector.http_endpoint}/v1/metrics")
    )
    provider = MeterProvider([reader], resource=Resource.create({"service.name": "driftline"}))
    gauge = provider.get_meter("test").create_gauge("driftline.drift.psi")
    gauge.set(0.25, {"feature": "input_tokens", "model": "pushed", "scale": "1h"})
    provider.shutdown()

    def psi():
        lines = collector.metrics().splitlines()
        return [
            line for line in lines if line.startswith("driftline_drift_psi{") and 'model="pushed"' in line
        ]

    [line] = wait_until(psi)
    assert line.endswith(" 0.25")
    for label in ('feature="input_tokens"', 'scale="1h"', 'job="driftline"'):
        assert label in line


def test_queue_survives_a_kill(tmp_path: Path) -> None:
    """Spans that Langfuse has not taken yet are sent after kill -9 and a new start, each of them once."""
    [port] = free_ports(1)
    with Collector(directory=tmp_path, langfuse=f"http://127.0.0.1:{port}") as running:
        for number in range(3):
            send_span(running, "chat tiny", {"number": number})
        running.process.kill()
        with LangfuseReceiver(port) as back:
            running.start()
            wait_until(lambda: len(back.spans) >= 3, deadline=60)
    assert sorted(span.attributes["number"] for span in back.spans) == [0, 1, 2]
