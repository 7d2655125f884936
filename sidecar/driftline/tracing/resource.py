"""What every span and metric says of its sender."""

from __future__ import annotations

from typing import Final

from driftline import __version__
from driftline.otlp.environment import Environ
from driftline.otlp.resource import Scope, resource_attributes
from driftline.tracing import semconv

SCOPE: Final = Scope(semconv.SCOPE, __version__, semconv.SCHEMA_URL)


def resource(environ: Environ) -> dict[str, str]:
    """What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say; by default the service is `driftline`."""
    found = resource_attributes(environ)
    if "service.name" not in found:
        found |= {"service.name": "driftline", "service.version": __version__}
    # The specification asks for the SDK's name. There is none of OpenTelemetry's between our spans and the wire.
    sdk = {"language": "python", "name": "driftline", "version": __version__}
    return {
        **{f"telemetry.sdk.{key}": value for key, value in sdk.items()},
        "telemetry.distro.name": "driftline",
        "telemetry.distro.version": __version__,
        **found,
    }
