"""Going on with a body where llhttp stopped: behind a head that names an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftline.relay.client import ClientConnection


class ResumedBody:
    """Events of a parser that was told a body's framing anew: those of the made-up head are left out."""

    def __init__(self, client: ClientConnection) -> None:
        self.heard = False
        self._client = client
        self.on_body = client.on_body
        self.on_message_complete = client.on_message_complete

    def on_message_begin(self) -> None:
        if self.heard:
            self._client.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.heard:
            self._client.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.heard:
            self._client.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.heard:
            self._client.on_headers_complete()
