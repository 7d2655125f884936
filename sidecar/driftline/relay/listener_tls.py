"""TLS on the port that clients connect to."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

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
    certificate, key = settings.certificate, settings.key or settings.certificate
    _check_certificates("certificate", certificate)
    _check_readable("key", key)
    try:
        # With a password: for an encrypted key OpenSSL would ask the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"key is {key}, which does not belong to the certificate in {certificate}: give the key that was made "
                "for it, and put the server's certificate first in its file"
            ) from None
        raise ValueError(
            f"key is {key}, which holds no key that can be used: it wants a PEM file, not encrypted"
        ) from None
    if settings.client_ca:
        _check_certificates("client_ca", settings.client_ca)
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_readable(name: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{name} is {file}: {error.strerror}; name a file that this user can read") from None


def _check_certificates(name: str, file: str) -> None:
    _check_readable(name, file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        raise ValueError(f"{name} is {file}, which holds no certificate: it wants a PEM file") from None
