"""How telemetry leaves: OTLP messages written straight to the wire format, and their ways out.

Nothing here knows what a call is. No protobuf classes and no SDK: they would cost a sidecar 140 µs a span.
"""
