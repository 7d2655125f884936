"""TLS to an upstream: always verified."""

from __future__ import annotations

import ssl
from pathlib import Path

from driftline.relay.settings import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """For connections as `tls` says. Raises `ValueError` that names the key and the file that cannot be used."""
    for key, file in (("ca", tls.ca), ("certificate", tls.certificate), ("key", tls.key)):
        if file:
            _readable(key, file)
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
    except ssl.SSLError:
        raise ValueError(
            f"ca is {tls.ca}, which holds no certificate in PEM form: name one that does"
        ) from None
    if tls.certificate:
        try:
            # A password, so that an encrypted key is an error and not a question on the terminal.
            context.load_cert_chain(tls.certificate, tls.key or None, password="")
        except ssl.SSLError as error:
            raise ValueError(
                f"certificate is {tls.certificate} and its key {tls.key or 'in the same file'}, which do not do: "
                f"{error.reason or error}; both are PEM, belong together, and the key is not encrypted"
            ) from None
    return context


def _readable(key: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{key} is {file}: {error.strerror}") from None
