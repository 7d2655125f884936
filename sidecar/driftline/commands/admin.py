"""Speaking to a running sidecar's admin port."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_SECONDS = 30.0
_TOKEN = "DRIFTLINE_ADMIN__TOKEN"  # noqa: S105  # the name of the variable


class Admin:
    def __init__(self, address: str, token: str) -> None:
        self._base = address if "://" in address else f"http://{address}"
        self._token = token

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The body of a 2xx answer. Raises `click.ClickException` with the sidecar's own words for any other."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(f"{self._base}{path}", data=body, method=method, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310  # the user's own address
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise click.ClickException(_message(error)) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise click.ClickException(
                f"no sidecar answers at {self._base}: {reason}; is it running, and is --admin its admin address?"
            ) from None

    def json(self, method: str, path: str, body: bytes | None = None) -> Any:
        return json.loads(self.request(method, path, body))


def _message(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        wrong = f"{_TOKEN} is not this sidecar's admin.token"
        return wrong if os.environ.get(_TOKEN) else f"this sidecar asks for its admin.token: set {_TOKEN}"
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the sidecar answered {error.code} {error.reason}"


def admin_options(command: F) -> F:
    """`--admin` and the token, as an `Admin` in the parameter `admin`."""

    def connect(_: click.Context, __: click.Parameter, address: str) -> Admin:
        return Admin(address, os.environ.get(_TOKEN, ""))

    return click.option(
        "--admin",
        default="127.0.0.1:9464",
        show_default=True,
        envvar="DRIFTLINE_ADMIN__LISTEN",
        metavar="ADDRESS",
        callback=connect,
        help="Of the running sidecar; its token is read from DRIFTLINE_ADMIN__TOKEN.",
    )(command)
