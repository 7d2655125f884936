"""Python's floor: two `asyncio.Protocol`s that hand bytes to each other, and read nothing of them.

python -m benchmarks.splice --port 8080 --upstream 127.0.0.1:8000
"""

from __future__ import annotations

import asyncio
from typing import cast

import click
import uvloop


class Upstream(asyncio.Protocol):
    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


class Client(asyncio.Protocol):
    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._early: list[bytes] = []
        self._upstream: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._upstream, _ = await loop.create_connection(
                lambda: Upstream(self._transport), *self._address
            )
        except OSError:
            self._transport.close()
            return
        self._upstream.writelines(self._early)

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connecting.cancel()
        if self._upstream is not None:
            self._upstream.close()


async def serve(port: int, upstream_host: str, upstream_port: int) -> asyncio.Server:
    """Listen on `port` of the loopback interface (0: any); each connection gets one of its own upstream."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Client(upstream_host, upstream_port), "127.0.0.1", port, backlog=4096
    )


@click.command()
@click.option("--port", required=True, type=int)
@click.option("--upstream", required=True, help="host:port")
def main(port: int, upstream: str) -> None:
    """Pass bytes on until interrupted."""

    async def run() -> None:
        host, _, upstream_port = upstream.rpartition(":")
        await (await serve(port, host, int(upstream_port))).serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
