"""TLS on the port that clients connect to."""

from __future__ import annotations

import logging
import ssl

from driftline.relay.certificates import check_authorities, load_chain
from driftline.relay.settings import ListenerTls

_log = logging.getLogger(__name__)
_named: set[str] = set()
"""Reasons of failed handshakes that are in the log."""


class _Handshake(ssl.SSLObject):
    """Says why handshakes fail: once for each reason, since anybody can make one fail."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            reason = error.reason or type(error).__name__
            if reason not in _named:
                _named.add(reason)
                _log.warning("%s; further ones are not logged", _EXPLAINED.get(reason) or _plain(reason))
            raise


_EXPLAINED = {"HTTP_REQUEST": "a client speaks plain HTTP to the TLS port: it needs an https:// URL"}


def _plain(reason: str) -> str:
    return f"a client's TLS handshake failed: {reason.lower().replace('_', ' ')}"


def server_context(settings: ListenerTls) -> ssl.SSLContext:
    """What the files hold now. Raises `ValueError` that names the key, the file and the fix."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = _Handshake
    load_chain(context, settings.certificate, settings.key)
    if settings.client_ca:
        check_authorities("client_ca", settings.client_ca)
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
