"""TLS to an upstream: always verified."""

from __future__ import annotations

import ssl

from driftline.relay.certificates import check_authorities, load_chain
from driftline.relay.settings import Tls


def client_context(settings: Tls) -> ssl.SSLContext:
    """What the files hold now. Raises `ValueError` that names the key, the file and the fix."""
    if settings.ca:
        check_authorities("ca", settings.ca)
    context = ssl.create_default_context(cafile=settings.ca or None)
    if settings.certificate:
        load_chain(context, settings.certificate, settings.key)
    return context
