"""The same conversations directly, through driftline and through nginx: every difference is known and has a reason."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import uvloop

from tests.relay.messages import differences, messages
from tests.relay.rig import DEADLINE, Upstream, eventually, rig
from tests.relay.scenes import SCENES, Record, play
from tests.stack.components.process import Process
from tests.stack.components.required import command

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "bytes.md"

OURS = {
    # What everyone sees.
    "request ~ host": "names the upstream; `relay.preserve_host` keeps the client's",
    "request + traceparent": "the sidecar's span becomes the upstream's parent (W3C Trace Context)",
    "request order: traceparent": "the client's is replaced by ours, which is written last",
    "request - x-driftline-team": "`x-driftline-*` is said to the sidecar, not to the upstream",
    "response + x-driftline-trace-id": "`relay.trace_header` leaves it out",
    # Hop by hop.
    "request - connection": "each connection has its own (RFC 9110 §7.6.1)",
    "request - keep-alive": "as above",
    "request - proxy-connection": "as above",
    "request - te": "as above: it is said by who reads the response, and trailers are passed on anyway",
    "request - x-private": "named by `Connection`",
    "request - http2-settings": "named by `Connection`",
    "request - upgrade": "h2c is ignored, as a server may (RFC 9110 §7.8): what is asked inside could not be seen",
    "request ~ connection": "of an upgrade `Connection: Upgrade` is left, and stands last",
    "request order: sec-websocket-key": "as above",
    "response - connection": "each connection has its own (RFC 9110 §7.6.1)",
    "response - keep-alive": "as above",
    "response - x-private": "named by `Connection`",
    "response + connection": "`close`, where the response or an HTTP/1.0 client leaves no other end",
    "response order: connection": "ours, and written last",
    "connection: goes on → ends": "after an HTTP/1.0 client's request, and after what is not HTTP",
    "connection: ends → goes on": "the upstream's end is not the client's, where the response says how long it is",
    # Framing.
    "request chunks: cut anew": "a piece goes on as it comes, without extensions (RFC 9112 §7.1.1)",
    "request order: transfer-encoding": "it belongs to the connection, and is written last",
    "response order: transfer-encoding": "as above",
    "response - transfer-encoding": "an HTTP/1.0 client knows no chunks (RFC 9112 §7.1)",
    "response framing: chunked → to the connection's end": "as above",
    # Versions and targets.
    "request line: GET /a HTTP/1.0 → GET /a HTTP/1.1": "each connection has its own version (RFC 9112 §2.3)",
    "request + host": "HTTP/1.1 needs one",
    "response line: HTTP/1.0 200 OK → HTTP/1.1 200 OK": "each connection has its own version (RFC 9112 §2.3)",
    "request line: GET http://other.example:81/a?b HTTP/1.1 → GET /a?b HTTP/1.1": (
        "a server is asked for a path (RFC 9112 §3.2.1)"
    ),
    # What the parser does not know, and what is broken.
    "request missing: BREW /pot HTTP/1.1": "a method that the parser does not know is refused",
    "response line: HTTP/1.1 200 OK → HTTP/1.1 400 Bad Request": "as above",
    "response more: HTTP/1.1 502 Bad Gateway": "where the upstream says nothing, somebody has to",
    "response missing: HTTP/1.1 200 Evil": "nobody asked for it; the client's next request must not get it",
    "response missing: HTTP/1.1 200 OK": (
        "a client that closes its sending half has left, as it has for uvicorn and nginx: by TCP one cannot be told "
        "from the other, and the engine must stop when a client leaves"
    ),
    # The one exception.
    "request body": "`stream_options.include_usage`, unless `relay.inject_usage` is off",
    "request ~ content-length": "as above",
    "response body": "the event that answers it is cut out",
    "response chunks: cut anew": "as above: only the chunk that held it",
}
"""What driftline changes, and why."""

D, N, E = "driftline", "nginx", "either"
NGINXS = {
    "request - traceparent": (E, "nginx traces nothing"),
    "response - x-driftline-trace-id": (E, "as above"),
    "request + x-driftline-team": (E, "as above"),
    "request order": (D, "nginx groups what it writes itself"),
    "response order": (D, "as above"),
    "response + server": (D, "nginx names itself where the upstream is silent"),
    "response ~ server": (D, "and puts itself in the upstream's place"),
    "response + date": (E, "a date where the upstream gave none (RFC 9110 §6.6.1)"),
    "response + connection": (E, "`keep-alive` is what HTTP/1.1 means anyway"),
    "response ~ connection": (E, "as above"),
    "request - x_under": (D, "`underscores_in_headers` is off: the field is legal"),
    "request - x.dot!": (D, "`ignore_invalid_headers` is on: the field is legal"),
    "request + proxy-connection": (D, "RFC 9110 §7.6.1"),
    "request + x-private": (D, "`Connection` named it (RFC 9110 §7.6.1)"),
    "response + x-private": (D, "as above"),
    "request - trailer x-sum": (D, "trailers are dropped"),
    "response - trailer x-sum": (D, "as above"),
    "request - transfer-encoding": (E, "a chunked body that is there already gets a length"),
    "request + content-length": (E, "as above"),
    "request framing: chunked → length": (E, "as above"),
    "response - transfer-encoding": (E, "may be left out in answer to `HEAD` (RFC 9112 §6.1)"),
    "request missing: OPTIONS * HTTP/1.1": (
        D,
        "nginx refuses the whole server as a target (RFC 9112 §3.2.4)",
    ),
    "response line: HTTP/1.1 200 OK → HTTP/1.1 400 Bad Request": (E, "as above"),
    "connection: goes on → ends": (E, "as above"),
    "request more: BREW /pot HTTP/1.1": (
        N,
        "a proxy may pass on what it does not know; ours is safe by its parser",
    ),
    "response line: HTTP/1.1 400 Bad Request → HTTP/1.1 200 OK": (N, "as above"),
    "connection: ends → goes on": (
        E,
        "nginx keeps HTTP/1.0 clients, and clients whose response it gave an end",
    ),
    "connection: is reset → ends": (D, "a response without a length that breaks off must not look whole"),
    "response end: whole → cut": (E, "as above: nginx shows it by the missing last chunk"),
    "response framing: to the connection's end → chunked": (
        E,
        "nginx gives a response without a length chunks",
    ),
    "response + transfer-encoding": (E, "as above"),
    "response chunks: cut anew": (D, "nginx writes all chunks anew; extensions are lost"),
    "request - expect": (
        D,
        "nginx promises to continue by itself, so that the upstream cannot refuse in time",
    ),
    "response line: HTTP/1.1 417 Expectation Failed → HTTP/1.1 100 Continue": (D, "as above"),
    "response more: HTTP/1.1 417 Expectation Failed": (D, "as above"),
    "request ~ connection": (E, "spelled `upgrade`"),
    "request + connection": (D, "h2c is offered to the upstream, and what is asked inside goes unseen"),
    "request + upgrade": (D, "as above"),
    "request + http2-settings": (D, "as above"),
    "response ~ content-type": (E, "of the 502 that each writes itself"),
    "response ~ content-length": (E, "as above"),
    "response body": (E, "as above; and where usage is asked for and cut out, the event is gone"),
    "request body": (E, "nginx asks for no usage"),
    "request ~ content-length": (E, "as above"),
}
"""What nginx does otherwise than driftline, who is right, and why."""

NOT_FOR_NGINX = {"early hints"}
"""Debian's 1.22 takes 103 for the answer; it is passed on since 1.29."""

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Host 127.0.0.1:{upstream};
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
            proxy_next_upstream off;
        }}
    }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def nginx(directory: Path, upstream: int) -> Iterator[int]:
    """nginx in front of `upstream`, nothing buffered; its port."""
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX.format(directory=directory, upstream=upstream, port=port), encoding="utf-8"
    )
    with Process(
        "nginx", [command("nginx"), "-c", configuration, "-e", "stderr"], directory=directory
    ) as process:
        process.wait_until(lambda: accepts(port), deadline=30)
        yield port


def accepts(port: int) -> bool:
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextlib.contextmanager
def nothing(_: Path, upstream: int) -> Iterator[int]:
    yield upstream


async def played(
    directory: Path, between: Callable[[Path, int], AbstractContextManager[int]]
) -> dict[str, Record]:
    """What each side of each scene got with a proxy `between` them."""
    upstream = Upstream()
    await upstream.start()
    try:
        with between(directory, upstream.port) as port:
            return await play_all(port, upstream, between)
    finally:
        upstream.stop()


async def relayed() -> dict[str, Record]:
    async with rig() as r:
        return await play_all(r.port, r.upstream)


async def play_all(port: int, upstream: Upstream, through: object = None) -> dict[str, Record]:
    return {
        name: await play(scene, port, upstream)
        for name, scene in SCENES.items()
        if through is not nginx or name not in NOT_FOR_NGINX
    }


def compared(one: Record, other: Record) -> list[str]:
    requests = messages(one.upstream), messages(other.upstream)
    methods = [message.line.partition(" ")[0].encode() for message in requests[0]]
    found = differences("request", *requests)
    found += differences("response", messages(one.client, methods), messages(other.client, methods))
    if one.end != other.end:
        found.append(f"connection: {one.end} → {other.end}")
    return found


def with_nginx(one: Record, other: Record) -> list[str]:
    return [re.sub(r"order: .*", "order", difference) for difference in compared(one, other)]


Records = dict[str, Record]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return asyncio.run(played(tmp_path_factory.mktemp("direct"), nothing))


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def ours(request: pytest.FixtureRequest) -> Records:
    factory = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[request.param]
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(relayed())


@pytest.fixture(scope="module")
def nginxs(tmp_path_factory: pytest.TempPathFactory) -> Records:
    command("nginx")
    return asyncio.run(played(tmp_path_factory.mktemp("nginx"), nginx))


@pytest.mark.parametrize("scene", SCENES)
def test_driftline_changes_nothing_but_what_is_listed(scene, direct, ours):
    found = compared(direct[scene], ours[scene])
    assert [difference for difference in found if difference not in OURS] == []


def test_every_listed_change_is_made(direct, ours):
    assert {found for scene in SCENES for found in compared(direct[scene], ours[scene])} == set(OURS)


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene not in NOT_FOR_NGINX])
def test_driftline_and_nginx_differ_in_nothing_but_what_is_listed(scene, ours, nginxs):
    found = with_nginx(ours[scene], nginxs[scene])
    assert [difference for difference in found if difference not in NGINXS] == []


def test_every_listed_difference_to_nginx_exists(ours, nginxs):
    assert {found for scene in nginxs for found in with_nginx(ours[scene], nginxs[scene])} == set(NGINXS)


def test_the_page_has_both_tables():
    """docs/reference/bytes.md, row by row."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == [f"| `{difference}` | {why} |" for difference, why in OURS.items()] + [
        f"| `{difference}` | {right} | {why} |" for difference, (right, why) in NGINXS.items()
    ]


UPLOAD = b"x" * 10_000_000


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_upload_streams_through_and_what_waits_is_bounded(framing):
    """The upstream has the first bytes long before the client sends the last; while it does not read, nor do we."""
    framed = {"length": lambda data: data, "chunks": lambda data: b"%x\r\n%b\r\n" % (len(data), data)}[
        framing
    ]
    field = {"length": b"Content-Length: %d" % len(UPLOAD), "chunks": b"Transfer-Encoding: chunked"}[framing]
    first, rest = UPLOAD[:1000], UPLOAD[1000:]
    async with rig() as r:
        r.upstream._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = await r.client()
        await client.sends(b"POST /v1/audio HTTP/1.1\r\nHost: s\r\n" + field + b"\r\n\r\n" + framed(first))
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        assert await upstream.reads(len(framed(first))) == framed(first)
        upstream.writer.transport.pause_reading()
        sending = asyncio.create_task(
            client.sends(framed(rest) + (b"" if framing == "length" else b"0\r\n\r\n"))
        )
        (connection,) = r.relay.clients
        await eventually(lambda: connection.paused)
        transaction = connection._current
        assert transaction._out_size + transaction.upstream.transport.get_write_buffer_size() < 1_000_000
        upstream.writer.transport.resume_reading()
        seen = 0
        async with asyncio.timeout(DEADLINE):
            while seen < len(rest):
                seen += (await upstream.reader.read(1_000_000)).count(b"x")
        await sending
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await client.reads_until(b"\r\n\r\n")
