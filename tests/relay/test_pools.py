"""Several models, several servers and several variants behind one port, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl

import msgspec
import pytest
import trustme

from driftline.relay.settings import Endpoint, Pool, RelaySettings, Route, Tls
from tests.relay.rig import Upstream, eventually, rig

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(path, body, *fields):
    lines = [b"POST %b HTTP/1.1" % path, b"Host: s", b"Content-Type: application/json", *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


def chat(model="m", *fields, **more):
    return post(
        b"/v1/chat/completions", json.dumps({"messages": [], "model": model, **more}).encode(), *fields
    )


def get(path=b"/v1/models", *fields):
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: s", *fields]) + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def upstreams(number):
    """That many servers."""
    made = [Upstream() for _ in range(number)]
    for upstream in made:
        await upstream.start()
    try:
        yield made
    finally:
        for upstream in made:
            upstream.stop()


def at(upstream, **more):
    """The endpoint where `upstream` listens."""
    return Endpoint(url=f"http://127.0.0.1:{upstream.port}", **more)


def refusing():
    """An address that refuses connections, for as long as the socket is open."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


async def served(client, request, upstream):
    """`request` reaches `upstream` on a new connection, and its answer `client`; head and body as they arrived."""
    await client.sends(request)
    peer = await upstream.accepts()
    seen = await peer.reads_request()
    await peer.sends(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    await client.reads_until(b"ok")
    return seen


async def refused(client, request):
    """Status and error of a request that no upstream gets."""
    await client.sends(request)
    head, _, body = (await client.reads_all()).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@contextlib.asynccontextmanager
async def answering(number):
    """That many servers, which answer whatever they are asked."""
    async with upstreams(number) as made:
        answers = [asyncio.create_task(answer_all(upstream)) for upstream in made]
        yield made
        for task in answers:
            task.cancel()


async def answer_all(upstream):
    async with asyncio.TaskGroup() as peers:
        while True:
            peers.create_task(answer(await upstream._arrived.get()))


async def answer(peer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.sends(OK)


async def asks(r, request):
    """A new client's `request` is answered."""
    client = await r.client()
    await client.sends(request)
    await client.reads_until(b"ok")


# Models


async def test_the_model_of_a_request_picks_the_server():
    async with upstreams(3) as (llama, qwen, rest):
        pools = [
            Pool(name="llama", models=["llama"], endpoints=[at(llama)]),
            Pool(name="qwen", models=["qwen/*"], endpoints=[at(qwen)]),
            Pool(name="rest", endpoints=[at(rest)]),
        ]
        async with rig(pools=pools) as r:
            client = await r.client()
            for request, upstream in (
                (chat("llama"), llama),
                (chat("qwen/7b"), qwen),
                (chat("other"), rest),
                (get(), rest),
                (post(b"/v1/embeddings", b'{"input":"x","model":"llama"}'), llama),
                (post(b"/v1/embeddings", b"not json"), rest),
            ):
                await served(client, request, upstream)
            records = await r.records.count(6)
            assert [record.pool for record in records] == ["llama", "qwen", "rest", "rest", "llama", "rest"]
            assert [record.model for record in records] == ["llama", "qwen/7b", "other", "", "llama", ""]


async def test_a_body_that_was_read_for_its_model_arrives_byte_for_byte():
    body = b' {"input": "\\u00e9", "model" : "m","x":[1,2]}\n'
    async with upstreams(1) as (one,), rig(pools=[Pool(models=["m"], endpoints=[at(one)])]) as r:
        client = await r.client()
        head, seen = await served(client, post(b"/v1/embeddings", body), one)
        assert (seen, b"Content-Length: %d\r\n" % len(body) in head) == (body, True)


async def test_a_stream_whose_model_was_read_is_still_asked_for_usage():
    async with upstreams(1) as (one,):
        async with rig(pools=[Pool(models=["m"], endpoints=[at(one)])]) as r:
            client = await r.client()
            _, seen = await served(client, chat("m", stream=True), one)
            assert json.loads(seen)["stream_options"] == {"include_usage": True}
        async with rig(
            pools=[Pool(models=["m"], endpoints=[at(one)])], relay=RelaySettings(inject_usage=False)
        ) as r:
            client = await r.client()
            _, seen = await served(client, chat("m", stream=True), one)
            assert "stream_options" not in json.loads(seen)


async def test_a_client_that_waits_for_100_continue_is_told_to_send_its_model():
    async with upstreams(1) as (one,), rig(pools=[Pool(models=["m"], endpoints=[at(one)])]) as r:
        client = await r.client()
        request = post(b"/v1/embeddings", b'{"model":"m"}', b"Expect: 100-continue")
        head, body = request.split(b"\r\n\r\n")
        await client.sends(head + b"\r\n\r\n")
        assert await client.reads_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await served(client, body, one)


async def test_a_chunked_body_is_read_for_its_model_and_stays_chunked():
    async with upstreams(1) as (one,), rig(pools=[Pool(models=["m"], endpoints=[at(one)])]) as r:
        client = await r.client()
        head = post(b"/v1/embeddings", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        _, seen = await served(client, head + b'5\r\n{"mod\r\n7\r\nel":"m"\r\n1\r\n}\r\n0\r\n\r\n', one)
        assert seen == b'd\r\n{"model":"m"}\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (chat("other"), "the model 'other' is not served here; known models: m, n*"),
        (post(b"/v1/embeddings", b"{}"), "the request names no model; known models: m, n*"),
        (get(), "the request names no model; known models: m, n*"),
        (
            post(b"/v1/x", b'{"model":"m"}', b"Content-Encoding: gzip"),
            "the request names no model; known models: m, n*",
        ),
    ],
    ids=["unknown", "none", "no body", "compressed"],
)
async def test_a_model_that_nobody_serves_is_an_error_in_openais_words_and_goes_nowhere(request_, message):
    async with upstreams(1) as (one,), rig(pools=[Pool(models=["m", "n*"], endpoints=[at(one)])]) as r:
        error = {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
        assert await refused(await r.client(), request_) == (404, error)
        record = await r.records.one()
        assert (record.outcome, record.status, record.pool, record.upstream) == ("bad_request", 404, "", "")
        assert one.connections == 0


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_too_large_to_be_read_goes_to_the_default_pool_or_is_refused(framing):
    """Larger than `relay.inspect_body_bytes`, it streams through, or says why it cannot."""
    request = post(b"/v1/embeddings", b'{"model":"m","x":"' + b"x" * 5000 + b'"}')
    if framing == "chunks":
        head, body = request.split(b"\r\n\r\n")
        head = head[: head.index(b"\r\nContent-Length")] + b"\r\nTransfer-Encoding: chunked"
        request = head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    small = RelaySettings(inspect_body_bytes=1000)
    async with upstreams(2) as (one, rest):
        listed, default = (
            Pool(name="m", models=["m"], endpoints=[at(one)]),
            Pool(name="rest", endpoints=[at(rest)]),
        )
        async with rig(pools=[listed, default], relay=small) as r:
            await served(await r.client(), request, rest)
        async with rig(pools=[listed], relay=small) as r:
            status, error = await refused(await r.client(), request)
            assert (status, error["code"]) == (413, "body_too_large")
            assert error["message"] == (
                "no pool takes any model, and none is looked for in a body of more than 1000 bytes: raise "
                "relay.inspect_body_bytes, or give a pool no models"
            )
        assert one.connections == 0


async def test_pipelined_requests_for_different_models_are_answered_in_order():
    async with upstreams(2) as (a, b):
        pools = [Pool(name=name, models=[name], endpoints=[at(u)]) for name, u in (("a", a), ("b", b))]
        async with rig(pools=pools) as r:
            client = await r.client()
            await client.sends(chat("a") + chat("b") + chat("c"))
            for upstream in (a, b):
                peer = await upstream.accepts()
                await peer.reads_request()
                await peer.sends(OK)
                await client.reads_until(b"ok")
            assert (await client.reads_all()).startswith(b"HTTP/1.1 404 ")


async def test_the_sidecars_own_paths_need_no_model():
    async with upstreams(1) as (one,), rig(pools=[Pool(models=["m"], endpoints=[at(one)])]) as r:
        client = await r.client()
        await client.sends(get(b"/-/live"))
        assert (await client.reads_until(b"}\n")).startswith(b"HTTP/1.1 200 ")


# Routes


@pytest.mark.parametrize(
    ("line", "status"), [(b"CONNECT h:443", 405), (b"CONNECT [::1:443", 405), (b"GET ftp://[/x", 400)]
)
async def test_what_is_no_request_for_a_server_is_told_so_and_not_that_it_names_no_model(line, status):
    async with upstreams(1) as (one,), rig(pools=[Pool(models=["m"], endpoints=[at(one)])]) as r:
        client = await r.client()
        await client.sends(line + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.reads_all())[:12] == b"HTTP/1.1 %d" % status
        assert ((await r.records.one()).status, r.relay.row["active"]) == (status, 0)


async def test_the_path_goes_before_the_model():
    """A multipart upload, whose model is in a form field, is routed so."""
    async with upstreams(2) as (text, speech):
        pools = [
            Pool(name="text", models=["m"], endpoints=[at(text)]),
            Pool(name="speech", models=["whisper"], endpoints=[at(speech)]),
        ]
        async with rig(pools=pools, routes=[Route(prefix="/v1/audio", pool="speech")]) as r:
            client = await r.client()
            form = b"--x\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper\r\n--x--\r\n"
            upload = post(b"/v1/audio/transcriptions", form).replace(
                b"application/json", b"multipart/form-data; boundary=x"
            )
            assert (await served(client, upload, speech))[1] == form
            await served(client, post(b"/v1/audio/speech", b'{"model":"m"}'), speech)
            await served(client, post(b"/v1/audios", b'{"model":"m"}'), text)
            assert [record.pool for record in await r.records.count(3)] == ["speech", "speech", "text"]


async def test_an_upload_that_is_routed_by_its_path_is_not_held():
    """Its first bytes are with the upstream before its last have been sent."""
    async with upstreams(2) as (text, speech):
        pools = [
            Pool(name="text", models=["m"], endpoints=[at(text)]),
            Pool(name="speech", endpoints=[at(speech)]),
        ]
        async with rig(pools=pools, routes=[Route(prefix="/v1/audio", pool="speech")]) as r:
            client = await r.client()
            request = post(b"/v1/audio/x", b'{"model":"m"}' + b" " * 10)
            await client.sends(request[:-10])
            peer = await speech.accepts()
            await peer.reads_until(b'{"model":"m"}')


async def test_a_route_of_no_kind_is_neither_changed_nor_traced():
    """A stream there is not asked for usage; its record says so."""
    async with (
        upstreams(1) as (one,),
        rig(pools=[Pool(endpoints=[at(one)])], routes=[Route(prefix="/v1/chat", kind="none")]) as r,
    ):
        client = await r.client()
        request = chat("m", stream=True)
        _, seen = await served(client, request, one)
        assert seen == request.partition(b"\r\n\r\n")[2]
        record = await r.records.one()
        assert (record.kind, record.pool, record.usage) == ("none", "default", "")


# Variants


def canary(stable, candidate, **more):
    return Pool(endpoints=[at(stable, variant="stable"), at(candidate, variant="canary")], **more)


@pytest.mark.parametrize(
    "field",
    [
        b"x-driftline-session: %b",
        b"baggage: other=1,session.id=%b;x=y",
        b"baggage: gen_ai.conversation.id=%b",
        b"x-driftline-user: %b",
        b"baggage: user.id=%b",
    ],
)
async def test_a_client_stays_with_its_variant(field):
    """Whichever way it says who it is; some are with one variant, some with the other."""
    async with answering(2) as (stable, candidate), rig(pools=[canary(stable, candidate)]) as r:
        for number in range(40):
            await asks(r, get(b"/", field % b"%d" % (number % 20)))
        variants = [record.variant for record in await r.records.count(40)]
        assert variants[:20] == variants[20:]
        assert set(variants) == {"stable", "canary"}


async def test_what_keeps_a_client_on_its_variant_can_be_chosen():
    """Forty sessions of one user, who is what counts."""
    async with (
        answering(2) as (stable, candidate),
        rig(pools=[canary(stable, candidate, sticky=("user",))]) as r,
    ):
        for number in range(40):
            await asks(r, get(b"/", b"x-driftline-user: ada", b"x-driftline-session: %d" % number))
        assert len({record.variant for record in await r.records.count(40)}) == 1


async def test_requests_of_nobody_are_spread():
    async with answering(2) as (stable, candidate), rig(pools=[canary(stable, candidate)]) as r:
        for _ in range(40):
            await asks(r, get())
        assert {record.variant for record in await r.records.count(40)} == {"stable", "canary"}


async def test_a_variant_can_be_asked_for_where_that_is_allowed():
    async with upstreams(2) as (stable, candidate):
        off = at(candidate, variant="canary", weight=0)
        async with rig(pools=[Pool(endpoints=[at(stable, variant="stable"), off], force_variant=True)]) as r:
            client = await r.client()
            head, _ = await served(client, get(b"/", b"x-driftline-variant: canary"), candidate)
            assert b"x-driftline" not in head
            await served(client, get(), stable)
            assert [record.variant for record in await r.records.count(2)] == ["canary", "stable"]


async def test_a_variant_that_is_not_there_cannot_be_asked_for():
    async with (
        upstreams(2) as (stable, candidate),
        rig(pools=[canary(stable, candidate, force_variant=True)]) as r,
    ):
        status, error = await refused(await r.client(), get(b"/", b"x-driftline-variant: cannary"))
        assert (status, error["code"]) == (400, "unknown_variant")
        assert error["message"] == "pool 'default' has no variant 'cannary'; its variants: stable, canary"
        assert stable.connections + candidate.connections == 0


async def test_where_variants_may_not_be_asked_for_the_header_is_recorded_and_nothing_else():
    async with upstreams(2) as (stable, candidate):
        off = at(candidate, variant="canary", weight=0)
        async with rig(pools=[Pool(endpoints=[at(stable, variant="stable"), off])]) as r:
            await served(await r.client(), get(b"/", b"x-driftline-variant: canary"), stable)
            record = await r.records.one()
            assert (record.variant, dict(record.request_headers)["x-driftline-variant"]) == (
                "stable",
                "canary",
            )


# Failure


async def test_a_request_is_tried_on_another_server_of_its_variant_and_then_on_another_variant():
    """The first two refuse; the record has the variant that answered."""
    dead = [refusing() for _ in range(2)]
    async with upstreams(1) as (alive,):
        pool = Pool(
            endpoints=[
                *(Endpoint(url=url, variant="canary", weight=50_000) for _, url in dead),
                at(alive, variant="stable", weight=1e-6),
            ]
        )
        async with rig(pools=[pool]) as r:
            await served(await r.client(), chat(), alive)
            record = await r.records.one()
            assert (record.variant, record.upstream, record.status) == (
                "stable",
                f"127.0.0.1:{alive.port}",
                200,
            )
            assert [endpoint.outstanding for endpoint in r.relay.router.endpoints] == [0, 0, 0]
            assert [bool(endpoint.problem) for endpoint in r.relay.router.endpoints[:2]] == [True, True]
    for sock, _ in dead:
        sock.close()


async def test_a_forced_variant_that_is_down_is_an_error_and_not_another_variant():
    sock, url = refusing()
    async with upstreams(1) as (alive,):
        pool = Pool(
            endpoints=[Endpoint(url=url, variant="canary"), at(alive, variant="stable")], force_variant=True
        )
        async with rig(pools=[pool]) as r:
            status, error = await refused(await r.client(), get(b"/", b"x-driftline-variant: canary"))
            assert (status, error["code"], alive.connections) == (502, "upstream_unreachable", 0)
    sock.close()


async def test_a_server_that_refused_is_asked_last_until_it_is_up_again():
    sock, url = refusing()
    async with upstreams(1) as (alive,), rig(pools=[Pool(endpoints=[Endpoint(url=url), at(alive)])]) as r:
        dead, other = r.relay.router.endpoints
        dead.found("")
        other.found("")
        for _ in range(20):
            await served(await r.client(), get(), alive)
        assert (dead.healthy, other.healthy) == (False, True)
        sock.listen()
        probing = asyncio.create_task(dead.probe())
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, sock.accept)
        with accepted:
            accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            await probing
        assert (dead.healthy, dead.problem) == (True, "")
    sock.close()


async def test_one_pool_that_is_down_does_not_make_the_sidecar_unready():
    """Else its clients would lose the other pool too; the answer says what is down."""
    async with (
        upstreams(2) as (a, b),
        rig(pools=[Pool(name="a", models=["a"], endpoints=[at(a)]), Pool(name="b", endpoints=[at(b)])]) as r,
    ):
        client = await r.client()
        up, down = r.relay.router.endpoints
        down.found("Connection refused")
        for problem, status in (("", b"200"), ("too", b"503")):
            up.found(problem)
            await client.sends(get(b"/-/ready"))
            head, _, body = (await client.reads_until(b"}\n")).partition(b"\r\n\r\n")
            assert (head[9:12], json.loads(body)[down.address]) == (status, "Connection refused")


# Unix sockets and TLS


async def test_a_server_on_a_unix_socket(tmp_path):
    """It is asked as localhost; the record has the path. Its connection is used again."""
    path = tmp_path / "vllm.sock"
    upstream = Upstream()
    await upstream.start(path)
    async with rig(endpoints=[Endpoint(url=f"unix:{path}")]) as r:
        client = await r.client()
        for _ in range(2):
            await client.sends(get())
            if not r.records.all:
                peer = await upstream.accepts()
            assert b"\r\nHost: localhost\r\n" in (await peer.reads_request())[0]
            await peer.sends(OK)
            await client.reads_until(b"ok")
        assert {record.upstream for record in await r.records.count(2)} == {str(path)}
        (endpoint,) = r.relay.router.endpoints
        probing = asyncio.create_task(endpoint.probe())
        peer = await upstream.accepts()
        await peer.reads_request()
        await peer.sends(b"HTTP/1.1 404 Not Found\r\n\r\n")
        await probing
        assert endpoint.healthy
    upstream.stop()


async def test_a_unix_socket_that_is_not_there_is_named(tmp_path):
    async with rig(endpoints=[Endpoint(url=f"unix:{tmp_path}/absent.sock")]) as r:
        _, error = await refused(await r.client(), get())
        assert f"{tmp_path}/absent.sock: No such file or directory" in error["message"]


class Authority:
    """A certificate authority, its file, and a server with a certificate of it."""

    def __init__(self, folder, *names):
        self.ca = trustme.CA()
        self.file = folder / f"{'-'.join(names) or 'none'}.pem"
        self.ca.cert_pem.write_to_path(str(self.file))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.names = []
        """Asked for by SNI."""
        self.server.sni_callback = lambda _, name, __: self.names.append(name)
        if names:
            self.ca.issue_cert(*names).configure_cert(self.server)


@contextlib.asynccontextmanager
async def secured(authority, **tls):
    """A rig in front of a TLS server of `authority`."""
    upstream = Upstream()
    await upstream.start(tls=authority.server)
    try:
        async with rig(endpoints=[Endpoint(url=f"https://127.0.0.1:{upstream.port}", tls=Tls(**tls))]) as r:
            yield r, upstream
    finally:
        upstream.stop()


async def test_a_server_with_tls(tmp_path):
    """Verified against the given authority; one connection serves many requests."""
    authority = Authority(tmp_path, "127.0.0.1")
    async with secured(authority, ca=str(authority.file)) as (r, upstream):
        client = await r.client()
        for _ in range(3):
            await client.sends(chat())
            if not r.records.all:
                peer = await upstream.accepts()
            head, _ = await peer.reads_request()
            await peer.sends(OK)
            await client.reads_until(b"ok")
        assert b"\r\nHost: 127.0.0.1:%d\r\n" % upstream.port in head
        assert upstream.connections == 1


@pytest.mark.parametrize("orderly", [True, False])
async def test_a_body_that_ends_with_its_connection_is_whole_only_after_tls_has_said_so(tmp_path, orderly):
    """Anybody on the way can end a TCP connection; close_notify is the server's own."""
    if not orderly and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        pytest.skip("asyncio does not tell one from the other")
    authority = Authority(tmp_path, "127.0.0.1")
    async with secured(authority, ca=str(authority.file)) as (r, upstream):
        client = await r.client()
        await client.sends(get())
        peer = await upstream.accepts()
        await peer.reads_request()
        await peer.sends(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await client.reads_until(b"half")
        if orderly:
            peer.closes()
            assert await client.reads_all() == b""
        else:
            with socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())) as below:
                below.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionError):
                await client.reads_all()
        assert (await r.records.one()).outcome == ("complete" if orderly else "upstream_broken")


async def test_the_name_to_be_verified_can_be_given(tmp_path):
    """And is what the server is asked for."""
    authority = Authority(tmp_path, "vllm.internal")
    async with secured(authority, ca=str(authority.file), server_name="vllm.internal") as (r, upstream):
        await served(await r.client(), get(), upstream)
        assert authority.names == ["vllm.internal"]


@pytest.mark.parametrize(
    ("names", "trusted", "problem"),
    [
        (["vllm.internal"], True, "certificate verify failed: IP address mismatch"),
        (["127.0.0.1"], False, "certificate verify failed: unable to get local issuer certificate"),
    ],
    ids=["wrong name", "unknown authority"],
)
async def test_a_certificate_that_does_not_verify_is_refused_with_the_reason(
    tmp_path, names, trusted, problem
):
    """The client gets 502, and the server not one byte of the request."""
    authority, other = Authority(tmp_path, *names), Authority(tmp_path, "other")
    async with secured(authority, ca=str(authority.file if trusted else other.file)) as (r, _):
        status, error = await refused(await r.client(), get())
        assert (status, error["code"]) == (502, "upstream_unreachable")
        assert problem in error["message"]
        (endpoint,) = r.relay.router.endpoints
        await endpoint.probe()
        assert problem in endpoint.problem


async def test_without_an_authority_those_of_the_system_are_trusted(tmp_path):
    """And a certificate of nobody's is not."""
    async with secured(Authority(tmp_path, "127.0.0.1")) as (r, _):
        status, error = await refused(await r.client(), get())
        assert (status, "certificate verify failed" in error["message"]) == (502, True)


async def test_a_server_that_wants_a_client_certificate_gets_it(tmp_path):
    authority = Authority(tmp_path, "127.0.0.1")
    authority.server.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(authority.server)
    issued, pem = authority.ca.issue_cert("sidecar"), tmp_path / "client.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    async with secured(authority, ca=str(authority.file), certificate=str(pem)) as (r, upstream):
        client = await r.client()
        await client.sends(get())
        peer = await upstream.accepts()
        await peer.reads_request()
        subject = dict(name[0] for name in peer.writer.get_extra_info("peercert")["subject"])
        assert subject["organizationalUnitName"].startswith("Testing cert")
        await peer.sends(OK)
        await client.reads_until(b"ok")


async def test_http_spoken_to_a_tls_port_says_so(tmp_path):
    """The commonest mistake has a message."""
    async with (
        upstreams(1) as (plain,),
        rig(endpoints=[Endpoint(url=f"https://127.0.0.1:{plain.port}")]) as r,
    ):
        client = await r.client()
        await client.sends(get())
        peer = await plain.accepts()
        await peer.sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert b"TLS handshake failed: wrong version number" in await client.reads_all()


@pytest.mark.parametrize("answer", [b"", b"\x15\x03\x03", b"hello\r\n", b"HTTP/1.1 fine\r\n"])
async def test_a_server_that_answers_no_http_is_down_in_plain_words(answer):
    """As one that speaks TLS where the URL says `http://`."""
    async with upstreams(1) as (other,), rig(pools=[Pool(endpoints=[at(other)])]) as r:
        (endpoint,) = r.relay.router.endpoints
        probing = asyncio.create_task(endpoint.probe())
        peer = await other.accepts()
        await peer.reads_request()
        if answer:
            await peer.sends(answer)
        peer.closes()
        await probing
        assert endpoint.problem == "/health was not answered in HTTP"


# A changed configuration


def reconfigured(r, *pools, routes=()):
    """The relay's settings with other pools."""
    return msgspec.structs.replace(r.relay.settings, pools=list(pools), routes=list(routes))


async def test_a_stream_outlives_its_endpoint():
    """The endpoint is taken out in the middle of a stream, which ends as it would have; then its connection goes."""
    async with upstreams(2) as (old, new), rig(pools=[Pool(endpoints=[at(old)])]) as r:
        client = await r.client()
        await client.sends(chat(stream=True))
        peer = await old.accepts()
        await peer.reads_request()
        await peer.sends(STREAM + b"4\r\nab\n\n\r\n")
        await client.reads_until(b"ab\n\n\r\n")
        r.relay.router.reconfigure(reconfigured(r, Pool(endpoints=[at(new)])))
        await served(await r.client(), get(), new)
        await peer.sends(b"4\r\ncd\n\n\r\n0\r\n\r\n")
        await client.reads_until(b"0\r\n\r\n")
        await peer.sees_the_end()
        assert [record.outcome for record in await r.records.count(2)] == ["complete", "complete"]
        await served(client, get(), new)


async def test_an_endpoint_that_stays_keeps_its_connections_health_and_count():
    async with upstreams(2) as (stays, comes), rig(pools=[Pool(endpoints=[at(stays)])]) as r:
        (endpoint,) = r.relay.router.endpoints
        endpoint.found("")
        client, busy = await r.client(), await r.client()
        await client.sends(get())
        peer = await stays.accepts()
        await peer.reads_request()
        await peer.sends(OK)
        await client.reads_until(b"ok")
        await busy.sends(get())
        await peer.reads_request()
        changed = Pool(
            endpoints=[at(stays, weight=3, variant="stable"), at(comes, variant="canary", weight=0)]
        )
        r.relay.router.reconfigure(reconfigured(r, changed))
        assert (r.relay.router.endpoints[0], endpoint.healthy, endpoint.outstanding) == (endpoint, True, 1)
        await peer.sends(OK)
        await busy.reads_until(b"ok")
        await client.sends(get())
        await peer.reads_request()
        await peer.sends(OK)
        await client.reads_until(b"ok")
        assert [record.variant for record in await r.records.count(3)] == ["", "", "stable"]
        assert (stays.connections, endpoint.outstanding) == (1, 0)


async def test_changed_weights_and_routes_hold_for_the_next_request():
    async with upstreams(2) as (a, b), rig(pools=[Pool(endpoints=[at(a)])]) as r:
        client = await r.client()
        await served(client, chat("m"), a)
        pools = [Pool(endpoints=[at(a)]), Pool(name="b", models=["m"], endpoints=[at(b)])]
        r.relay.router.reconfigure(reconfigured(r, *pools))
        await served(client, chat("m"), b)
        r.relay.router.reconfigure(reconfigured(r, *pools, routes=[Route(prefix="/v1/chat", pool="default")]))
        await served(client, chat("m"), a)


async def test_a_request_whose_body_is_still_coming_goes_where_the_new_configuration_says():
    async with upstreams(2) as (a, b), rig(pools=[Pool(models=["m"], endpoints=[at(a)])]) as r:
        client = await r.client()
        request = chat("m")
        await client.sends(request[:-5])
        await eventually(lambda: r.relay.row["started"] == 1)
        r.relay.router.reconfigure(reconfigured(r, Pool(models=["m"], endpoints=[at(b)])))
        await served(client, request[-5:], b)
        assert a.connections == 0


async def test_a_configuration_that_cannot_be_used_changes_nothing(tmp_path):
    async with upstreams(1) as (one,), rig(pools=[Pool(endpoints=[at(one)])]) as r:
        bad = Pool(endpoints=[Endpoint(url="https://127.0.0.1:1", tls=Tls(ca=str(tmp_path / "absent.pem")))])
        with pytest.raises(ValueError, match=r"ca is .*absent\.pem: No such file or directory"):
            r.relay.router.reconfigure(reconfigured(r, bad))
        await served(await r.client(), get(), one)


async def test_two_pools_with_the_same_server_share_it():
    """Its requests are counted together, and it is looked at once."""
    async with upstreams(1) as (one,):
        pools = [
            Pool(name="a", models=["a"], endpoints=[at(one)]),
            Pool(name="b", endpoints=[at(one, variant="x")]),
        ]
        async with rig(pools=pools) as r:
            (endpoint,) = r.relay.router.endpoints
            for model in ("a", "b"):
                await (await r.client()).sends(chat(model))
            await eventually(lambda: endpoint.outstanding == 2)
