"""TLS on the listener: what changes for a connection, from handshake to end, and what does not."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from hashlib import sha256
from random import Random

import msgspec
import pytest
import trustme

from driftline.config import ConfigError, load
from driftline.relay import listener_tls, server
from driftline.relay.listener_tls import server_context
from driftline.relay.settings import Limits, ListenerTls, Timeouts
from tests.relay.rig import DEADLINE, Peer, eventually, rig

ASK = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Keys:
    """An authority, and a certificate of the listener's that it has issued, as files."""

    def __init__(self, folder):
        self.authority = trustme.CA()
        self.folder = folder
        self.issue("localhost")

    def issue(self, name):
        """Another certificate in the place of the last one."""
        made = self.authority.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        return self.write("cert.pem", chain), self.write("key.pem", made.private_key_pem.bytes())

    def write(self, name, data):
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def settings(self, **more):
        return ListenerTls(
            certificate=str(self.folder / "cert.pem"), key=str(self.folder / "key.pem"), **more
        )

    def client(self):
        """A client's context, which trusts the authority."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path)


async def connects(r, keys, *, name="localhost", context=None):
    """A new client, its handshake done."""
    context = context or keys.client()
    peer = Peer(*await asyncio.open_connection("127.0.0.1", r.port, ssl=context, server_hostname=name))
    r._open.append(peer)
    return peer


async def served(r, client):
    """One request of `client` is answered."""
    await client.sends(ASK)
    upstream = await r.upstream.accepts()
    await upstream.reads_until(b"\r\n\r\n")
    await upstream.sends(REPLY)
    assert (await client.reads_until(b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")
    return upstream


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_stream_arrives_byte_for_byte_as_it_was_sent(made, version):
    """And HTTP/1.1 is agreed on with a client that would also speak HTTP/2."""
    context = made.client()
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    draw = Random(5)
    events = [b"data: " + draw.randbytes(draw.randint(1, 9000)).hex().encode() + b"\n\n" for _ in range(50)]
    async with rig(tls=made.settings()) as r:
        client = await connects(r, made, context=context)
        agreed = client.writer.get_extra_info("ssl_object")
        assert (agreed.version(), agreed.selected_alpn_protocol()) == (
            version.name.replace("_", "."),
            "http/1.1",
        )
        await client.sends(ASK)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
        await upstream.sends(HEAD)
        await client.reads_until(b"\r\n\r\n")
        for chunk in chunks:
            await upstream.sends(chunk)
            assert await client.reads(len(chunk)) == chunk
        await upstream.sends(b"0\r\n\r\n")
        assert await client.reads(5) == b"0\r\n\r\n"
        assert (await r.records.one()).outcome == "complete"


async def test_pipelined_requests_are_answered_in_order_on_one_connection(made):
    async with rig(tls=made.settings()) as r:
        client = await connects(r, made)
        await client.sends(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(5)))
        upstream = await r.upstream.accepts()
        for n in range(5):
            assert (await upstream.reads_until(b"\r\n\r\n")).startswith(b"GET /%d " % n)
            await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)
        for n in range(5):
            await client.reads_until(b"\r\n\r\n")
            assert await client.reads(1) == b"%d" % n
        assert r.upstream.connections == 1


async def test_an_upload_goes_no_faster_than_the_upstream_reads_it(made):
    """What waits in the relay is bounded, whatever the client has to say; then all of it arrives."""
    body = Random(6).randbytes(24 * 1024 * 1024)
    async with rig(tls=made.settings()) as r:
        client = await connects(r, made)
        client.writer.write(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.writer.write(body)
        upstream = await r.upstream.accepts()
        upstream.writer.transport.pause_reading()
        (connection,) = r.relay.clients
        await eventually(lambda: connection.paused)
        transaction = connection._current
        waiting = transaction.upstream.transport.get_write_buffer_size() + transaction._out_size
        assert waiting < 2 * 1024 * 1024
        upstream.writer.transport.resume_reading()
        await upstream.reads_until(b"\r\n\r\n")
        received = await upstream.reads(len(body))
        assert sha256(received).digest() == sha256(body).digest()
        await upstream.sends(REPLY)
        await client.reads_until(b"ok")


async def test_a_response_is_read_no_faster_than_the_client_takes_it(made):
    body = Random(7).randbytes(24 * 1024 * 1024)
    async with rig(tls=made.settings()) as r:
        client = await connects(r, made)
        client.writer.transport.pause_reading()
        await client.sends(ASK)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        upstream.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        upstream.writer.write(body)
        (connection,) = r.relay.clients
        await eventually(lambda: connection.write_paused)
        assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024
        client.writer.transport.resume_reading()
        await client.reads_until(b"\r\n\r\n")
        assert sha256(await client.reads(len(body))).digest() == sha256(body).digest()


@pytest.mark.parametrize("leaves", [Peer.closes, Peer.resets])
async def test_a_client_that_leaves_ends_its_upstreams_connection_at_once(made, leaves):
    async with rig(tls=made.settings()) as r:
        client = await connects(r, made)
        await client.sends(ASK)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(HEAD)
        await client.reads_until(b"\r\n\r\n")
        leaves(client)
        await upstream.sees_the_end()
        assert (await r.records.one()).outcome == "client_closed"
        await eventually(lambda: not r.relay.clients)


async def test_a_response_that_breaks_off_does_not_look_whole(made):
    """Its end would be the connection's: no close_notify is sent, which would say that all is there."""
    async with rig(tls=made.settings()) as r:
        client = await connects(r, made)
        await client.sends(ASK)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await client.reads_until(b"half")
        upstream.resets()
        with pytest.raises(ConnectionError):
            await client.reads_all()
        assert (await r.records.one()).outcome == "upstream_broken"


async def test_an_error_reaches_a_client_that_is_still_sending(made):
    """Closing with unread bytes would reset the connection under the answer (RFC 9112 §9.6)."""
    async with rig(tls=made.settings(), limits=Limits(body_bytes=1000)) as r:
        client = await connects(r, made)
        client.writer.write(b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            client.writer.write(b"10000\r\n%b\r\n" % bytes(65536))
        assert (await client.reads_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        assert b"body_too_large" in await client.reads_until(b"}")


async def test_plain_http_to_the_tls_port_is_closed_and_said_once(made, caplog, monkeypatch):
    monkeypatch.setattr(listener_tls, "_named", set())
    async with rig(tls=made.settings()) as r:
        for _ in range(3):
            plain = await r.client()
            await plain.sends(ASK)
            await plain.sees_the_end()
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
            "a client speaks plain HTTP to the TLS port: it needs an https:// URL; further ones are not logged"
        ]
        await served(r, await connects(r, made))


async def test_a_client_that_never_begins_its_handshake_is_closed(made):
    async with rig(tls=made.settings(), timeouts=Timeouts(header=0.2, drain=1)) as r:
        silent = await r.client()
        await eventually(lambda: r.relay.arriving)
        await silent.sees_the_end()
        await eventually(lambda: not r.relay.arriving)
        assert r.relay.row["connections"] == 0


async def test_a_relay_that_drains_waits_for_a_handshake_under_way(made):
    async with rig(tls=made.settings(), timeouts=Timeouts(drain=10)) as r:
        plain = socket.create_connection(("127.0.0.1", r.port))
        await eventually(lambda: r.relay.arriving)
        draining = asyncio.create_task(r.relay.drain(replaced=True))
        await eventually(lambda: r.relay.draining)
        context = made.client()
        client = Peer(*await asyncio.open_connection(sock=plain, ssl=context, server_hostname="localhost"))
        await client.sends(ASK)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(REPLY)
        assert b"\r\nConnection: close\r\n" in await client.reads_until(b"ok")
        assert await client.reads_all() == b""
        client.closes()
        await draining


async def test_a_handshake_that_failed_does_not_hold_up_a_relay_that_drains(made, monkeypatch):
    """A balancer that only looks whether the port is open leaves one behind every few seconds."""
    monkeypatch.setattr(server, "_IDLE_DRAIN_SECONDS", 0.1)
    async with rig(tls=made.settings(), timeouts=Timeouts(drain=60)) as r:
        (await r.client()).closes()
        await eventually(lambda: r.relay.arriving)
        async with asyncio.timeout(DEADLINE):
            await r.relay.drain(replaced=True)


async def test_a_reload_while_there_are_no_descriptors_leaves_one_listener(made, monkeypatch):
    """Of two, the end of the relay would close one, and clients would go on being taken by the other."""
    async with rig(tls=made.settings()) as r:
        monkeypatch.setattr(server.descriptors, "left", lambda _=1: False)
        await eventually(lambda: r.relay._paused)
        await r.relay.reload(r.relay.settings)
        reloaded = r.relay._server
        monkeypatch.undo()
        await eventually(lambda: not r.relay._paused)
        assert r.relay._server.is_serving()
        assert reloaded is r.relay._server or not reloaded.is_serving()


async def test_an_idle_client_of_a_relay_that_drains_sees_an_orderly_end(made, monkeypatch):
    monkeypatch.setattr(server, "_IDLE_DRAIN_SECONDS", 0.1)
    async with rig(tls=made.settings(), timeouts=Timeouts(drain=10)) as r:
        client = await connects(r, made)
        await served(r, client)
        draining = asyncio.create_task(r.relay.drain(replaced=True))
        assert await client.reads_all() == b""
        client.closes()
        await draining


async def test_only_clients_with_a_certificate_of_the_authority_are_let_in(keys):
    keys.authority.cert_pem.write_to_path(keys.folder / "ca.pem")
    async with rig(tls=keys.settings(client_ca=str(keys.folder / "ca.pem"))) as r:
        stranger = await connects(r, keys)
        await stranger.sends(ASK)
        with pytest.raises((ConnectionError, EOFError, ssl.SSLError)):
            await stranger.reads_until(b"\r\n")
        known = keys.client()
        keys.authority.issue_cert("client").configure_cert(known)
        await served(r, await connects(r, keys, context=known))
        assert r.relay.row["started"] == 1


async def test_new_certificates_are_taken_over_without_a_connection_noticing(keys):
    async with rig(tls=keys.settings()) as r:
        old = await connects(r, keys)
        upstream = await served(r, old)
        keys.issue("renewed.example")
        await r.relay.reload(r.relay.settings)
        await old.sends(ASK)
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(REPLY)
        await old.reads_until(b"ok")
        new = await connects(r, keys, name="renewed.example")
        await new.sends(ASK)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connects(r, keys, name="localhost")


async def test_new_certificates_that_cannot_be_used_leave_the_old_ones(keys):
    async with rig(tls=keys.settings()) as r:
        keys.write("cert.pem", b"nonsense")
        with pytest.raises(ValueError, match="which holds no certificate"):
            await r.relay.reload(r.relay.settings)
        assert not os.get_blocking(r.relay._listener.fileno()), "another relay would wait in accept"
        await served(r, await connects(r, keys))


async def test_tls_can_be_switched_on_and_off_by_a_reload(keys):
    async with rig() as r:
        plain = await r.client()
        upstream = await served(r, plain)
        await r.relay.reload(msgspec.structs.replace(r.relay.settings, tls=keys.settings()))
        secure = await connects(r, keys)
        await r.relay.reload(msgspec.structs.replace(r.relay.settings, tls=None))
        for client in (plain, secure, await r.client()):
            await client.sends(ASK)
            await upstream.reads_until(b"\r\n\r\n")
            await upstream.sends(REPLY)
            await client.reads_until(b"ok")


_TOGETHER = "give the key that was made for it, and put the certificate itself first in its file"
ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"


def test_files_that_cannot_be_used_are_named_with_their_key_and_the_fix(keys, tmp_path):
    certificate, key = keys.settings().certificate, keys.settings().key
    other = keys.write("other.pem", keys.authority.issue_cert("other").private_key_pem.bytes())
    junk, locked = keys.write("junk.pem", b"junk"), keys.write("locked.pem", ENCRYPTED)
    absent = str(tmp_path / "absent.pem")
    cases = [
        (
            (absent, key, ""),
            f"certificate is {absent}: No such file or directory; name a file that this user can read",
        ),
        (
            (certificate, absent, ""),
            f"key is {absent}: No such file or directory; name a file that this user can read",
        ),
        ((junk, key, ""), f"certificate is {junk}, which holds no certificate: it wants a PEM file"),
        (
            (certificate, other, ""),
            f"key is {other}, which does not belong to the certificate in {certificate}: {_TOGETHER}",
        ),
        *(
            (
                (certificate, bad, ""),
                f"key is {bad}, which holds no key that can be used: it wants a PEM file, not encrypted",
            )
            for bad in (junk, locked)
        ),
        ((certificate, key, junk), f"client_ca is {junk}, which holds no certificate: it wants a PEM file"),
    ]
    seen = {}
    for files, _ in cases:
        with pytest.raises(ValueError) as error:
            server_context(ListenerTls(certificate=files[0], key=files[1], client_ca=files[2]))
        seen[files] = str(error.value)
    assert seen == dict(cases)


def test_the_configuration_is_refused_with_the_line_before_anything_starts(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("listen: 127.0.0.1:0\ntls:\n  certificate: /nowhere.pem\n")
    with pytest.raises(ConfigError, match=r"d\.yaml:2: tls: certificate is /nowhere\.pem: No such file"):
        load(file, {})


async def test_a_request_that_crosses_the_end_of_an_idle_connection_meets_no_reset(monkeypatch):
    """Plain TCP: after the relay has said that it closes, what still comes is read and dropped, so that the client
    finds the end of the stream and no error (RFC 9112 §9.6)."""
    monkeypatch.setattr(server, "_IDLE_DRAIN_SECONDS", 0.1)
    async with rig(timeouts=Timeouts(drain=10)) as r:
        client = await r.client()
        await served(r, client)
        draining = asyncio.create_task(r.relay.drain(replaced=True))
        (connection,) = r.relay.clients
        await eventually(lambda: connection._closing)
        await client.sends(ASK)
        assert await client.reads_all() == b""
        sock = client.writer.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        client.closes()
        await draining
        assert len(r.records.all) == 1
