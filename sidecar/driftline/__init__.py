"""Driftline: an OpenTelemetry-native tracing and drift sidecar for LLM serving."""

__version__ = "0.1.0"
