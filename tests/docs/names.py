"""Names that the documentation may use, as the code has them."""

from __future__ import annotations

import re

from opentelemetry.sdk import environment_variables

from driftline import attribution
from driftline.metrics.instruments import Histogram
from driftline.tracing import semconv
from scripts.reference import exported, metric_name, sections
from tests.docs.pages import ROOT

KEYS = {key.path for section in sections() for key in section.keys}
SECTIONS = {section.path for section in sections()}
VARIABLES = {
    f"DRIFTLINE_{path.upper().replace('.', '__')}" for path in KEYS | SECTIONS if path and "[]" not in path
} | {f"DRIFTLINE_{name}" for name in ("CONFIG", "LOG", "LOG_LEVEL", "REQUIRE_STACK", "DASHBOARDS")}
"""The last are of the test suite and of Grafana's provisioning."""


def attributes() -> set[str]:
    """Of spans; those that end in a dot are followed by another name."""
    constants = {
        name: value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)
    }
    metrics = {metric.name for metric in exported()} | {semconv.TOKEN_TYPE, semconv.SCHEMA_URL}
    return {value for value in constants.values() if "." in value} - metrics


def dotted() -> set[str]:
    """Attributes, metrics in OpenTelemetry's spelling, keys of baggage."""
    return attributes() | {metric.name for metric in exported()} | set(attribution.BAGGAGE)


def samples() -> set[str]:
    """Metrics in Prometheus' spelling, the parts of histograms, and labels."""
    found = set()
    for metric in exported():
        name = metric_name(metric)
        found |= {name, *(label.replace(".", "_") for label in metric.labels)}
        if isinstance(metric, Histogram):
            found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def standard_variables() -> set[str]:
    """That the SDK knows, or that we read ourselves."""
    known = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    for path in (ROOT / "sidecar").rglob("*.py"):
        known |= set(re.findall(r"\bOTEL_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")))
    signals = ("TRACES", "METRICS")
    return known | {
        f"OTEL_EXPORTER_OTLP_{signal}_{part}" for signal in signals for part in ("ENDPOINT", "PROTOCOL")
    }
