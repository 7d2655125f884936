"""The real Collector, running the configuration that is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tests.stack.components import required
from tests.stack.components.http import answers, get
from tests.stack.components.langfuse import AUTH
from tests.stack.components.process import Process, free_ports
from tests.stack.components.spans import ReceivedSpan, decode_json_lines

CONFIGURATION = Path(__file__).parents[3] / "collector-config" / "node.yaml"


class Collector:
    """May be killed and started again: it keeps its ports and its state directory."""

    def __init__(self, *, directory: Path, langfuse: str) -> None:
        self._binary = required.collector_binary()
        self._directory = directory
        self._langfuse = langfuse
        self._grpc, self._http, self._prometheus, self._health, self._telemetry = free_ports(5)
        self.process: Process

    @property
    def grpc_endpoint(self) -> str:
        return f"http://127.0.0.1:{self._grpc}"

    @property
    def http_endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http}"

    @property
    def traces_endpoint(self) -> str:
        return f"{self.http_endpoint}/v1/traces"

    @property
    def metrics_url(self) -> str:
        """What the Prometheus exporter shows."""
        return f"http://127.0.0.1:{self._prometheus}/metrics"

    @property
    def spans_file(self) -> Path:
        return self._directory / "state" / "spans.jsonl"

    def start(self) -> Self:
        environment = {
            "COLLECTOR_OTLP_GRPC": f"127.0.0.1:{self._grpc}",
            "COLLECTOR_OTLP_HTTP": f"127.0.0.1:{self._http}",
            "COLLECTOR_PROMETHEUS": f"127.0.0.1:{self._prometheus}",
            "COLLECTOR_HEALTH": f"127.0.0.1:{self._health}",
            "COLLECTOR_METRICS_PORT": str(self._telemetry),
            "COLLECTOR_STATE": str(self._directory / "state"),
            "LANGFUSE_HOST": self._langfuse,
            "LANGFUSE_AUTH": AUTH,
        }
        command = [self._binary, "--config", CONFIGURATION]
        self.process = Process("collector", command, directory=self._directory, environment=environment)
        self.process.wait_until(lambda: answers(f"http://127.0.0.1:{self._health}"), deadline=60)
        return self

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def spans(self, trace_id: str | None = None) -> list[ReceivedSpan]:
        """What its file holds, of one trace or of all. `OSError` before the first."""
        spans = decode_json_lines(self.spans_file.read_text())
        return [span for span in spans if trace_id in (None, span.trace_id)]

    def metrics(self) -> str:
        return get(self.metrics_url)

    def own_metrics(self) -> str:
        """Of the Collector itself: queue sizes, refused spans."""
        return get(f"http://127.0.0.1:{self._telemetry}/metrics")
