"""Who speaks: the resource and the instrumentation scope, written once for a batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import msgspec

from driftline.otlp.wire import Attributes, attributes, message, text, varint

_log = logging.getLogger(__name__)


class Scope(msgspec.Struct, frozen=True):
    name: str
    version: str = ""
    schema_url: str = ""


class Envelope:
    """What stands around the spans or the metrics of a batch, which share their resource and scope.

    `Export…ServiceRequest`, `Resource…` and `Scope…` of traces and metrics have one form: only what is repeated
    in the innermost differs.
    """

    def __init__(self, resource: Attributes, scope: Scope) -> None:
        self._resource = message(1, attributes(1, resource))
        self._scope = message(1, text(1, scope.name) + text(2, scope.version))
        self._schema_url = text(3, scope.schema_url)

    def request(self, items: Iterable[bytes]) -> bytes:
        """The body of an export request with these `spans` or `metrics` fields."""
        scoped = b"".join((self._scope, *items, self._schema_url))
        head = self._resource + b"\x12" + varint(len(scoped))
        return b"".join((b"\n", varint(len(head) + len(scoped)), head, scoped))


def resource_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """What `OTEL_RESOURCE_ATTRIBUTES` and, going before it, `OTEL_SERVICE_NAME` say.

    `key=value` pairs joined by commas, values percent-encoded; a part that is none is left out, and said.
    """
    found = pairs("OTEL_RESOURCE_ATTRIBUTES", environ)
    if name := environ.get("OTEL_SERVICE_NAME", "").strip():
        found["service.name"] = name
    return found


def pairs(variable: str, environ: Mapping[str, str]) -> dict[str, str]:
    """`key=value,…` of a standard variable, values percent-encoded."""
    found = {}
    for part in environ.get(variable, "").split(","):
        key, equals, value = part.partition("=")
        if equals and key.strip():
            found[key.strip()] = unquote(value.strip())
        elif part.strip():
            # Not shown: the variable may hold a password.
            _log.warning("%s has a part that is not key=value: it is left out", variable)
    return found
