"""Files of certificates and keys: errors name the setting, the file and the fix."""

from __future__ import annotations

import ssl
from pathlib import Path


def check_authorities(setting: str, file: str) -> None:
    """Raises `ValueError` unless `file` holds certificates in PEM form."""
    _check_readable(setting, file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        raise ValueError(f"{setting} is {file}, which holds no certificate: it wants a PEM file") from None


def load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Let `context` show `certificate`; an empty `key` is in the same file. Raises `ValueError`."""
    key = key or certificate
    check_authorities("certificate", certificate)
    _check_readable("key", key)
    try:
        # With a password: for an encrypted key OpenSSL would ask the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"key is {key}, which does not belong to the certificate in {certificate}: give the key that was made "
                "for it, and put the certificate itself first in its file"
            ) from None
        raise ValueError(
            f"key is {key}, which holds no key that can be used: it wants a PEM file, not encrypted"
        ) from None


def _check_readable(setting: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{setting} is {file}: {error.strerror}; name a file that this user can read"
        ) from None
