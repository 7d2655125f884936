"""A configuration that is changed while the sidecar runs, and SIGHUP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl

import msgspec
import pytest
import trustme

from driftline.config import Config
from driftline.reload import plan
from tests.clients import Client, Message, upstream
from tests.running import balanced, events, health, kill_successors, linux, logged, pids, running, until

OLD = Config(limits=msgspec.convert({"body_bytes": 10}, type(Config().limits)))


def changed(**parts):
    return msgspec.convert(msgspec.to_builtins(OLD) | parts, Config)


def test_a_plan_names_every_key_with_its_old_and_its_new_value():
    new = changed(
        limits={"body_bytes": 20, "concurrent_requests": 5},
        pools=[{"endpoints": [{"url": "http://h:1"}]}],
    )
    first = plan(OLD, new)
    assert first.config == new
    assert (first.observer, first.held_back) == (False, [])
    assert first.changed[:2] == ["pools: [] -> unset", "limits.body_bytes: 10 -> 20"]
    assert 'pools[0].endpoints[0].url: unset -> "http://h:1"' in first.changed
    assert plan(new, new) == (new, [], [], False)


def test_secrets_are_masked_in_a_plan_and_yet_seen_to_change():
    new = changed(admin={"token": "sesame"}, exporters=[{"endpoint": "http://h", "headers": {"k": "v"}}])
    made = plan(OLD, new)
    assert 'admin.token: "" -> "********"' in made.changed
    assert made.observer
    assert "sesame" not in str(made.changed)
    assert plan(new, changed(admin={"token": "open"}, exporters=new.exporters)).changed == [
        'admin.token: "********" -> "********"'
    ]


def test_what_needs_a_restart_stays_as_it_was_and_is_listed():
    new = changed(listen="127.0.0.1:1", relays=3, state_dir="elsewhere", admin={"listen": "127.0.0.1:2"})
    made = plan(OLD, new)
    assert (made.config, made.changed, made.observer) == (OLD, [], False)
    assert made.held_back == [
        'listen: "127.0.0.1:8080" -> "127.0.0.1:1"',
        'admin.listen: "127.0.0.1:9464" -> "127.0.0.1:2"',
        "relays: 1 -> 3",
        'state_dir: "./.driftline" -> "elsewhere"',
    ]


def test_a_token_that_the_running_admin_port_needs_cannot_be_taken_away():
    open_to_all = changed(admin={"listen": "0.0.0.0:9464", "token": "sesame"})
    with pytest.raises(ValueError, match=r"listen is 0\.0\.0\.0:9464, .* and there is no token"):
        plan(open_to_all, changed(admin={"listen": "127.0.0.1:9464"}))


class Written:
    """The file that a sidecar was started with."""

    def __init__(self, directory):
        self._path = directory / "driftline.yaml"

    async def reload(self, sidecar, *, says, **parts):
        """Changes parts of it, sends SIGHUP and waits for the line that begins as `says`."""
        text = json.loads(self._path.read_text()) | parts
        self._path.write_text(json.dumps(text))
        before = len([entry for entry in events(sidecar) if says in entry["event"]])
        os.kill(sidecar.process.pid, signal.SIGHUP)
        return await logged(sidecar, says, times=before + 1)


async def upload(sidecar, size):
    """The status of a request with such a body, on a connection of its own."""
    reader, writer = await Client(sidecar.url).connection()
    writer.write(b"POST /digest HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size)))
    message = await Message.read(reader)
    writer.close()
    return int(message.head.split()[1])


@pytest.mark.parametrize("relays", [1, 2])
async def test_streams_in_flight_do_not_notice_a_reload_and_new_requests_see_it_at_once(tmp_path, relays):
    """The streams are older than the new limit on a response's time, and on another endpoint than what comes after."""
    async with upstream() as one, upstream() as two:

        def pools(*weights):
            places = zip((one.url, two.url), weights, strict=True)
            return [{"endpoints": [{"url": url, "weight": weight} for url, weight in places]}]

        file = Written(tmp_path)
        options = {"configuration": {"pools": pools(1, 0)}}
        async with running(None, tmp_path, "--relays", str(relays), **options) as sidecar:
            before = await health(sidecar)
            one.may_end.clear()
            clients = [Client(sidecar.url) for _ in range(8)]
            streams = [asyncio.create_task(client.streams(str(n))) for n, client in enumerate(clients)]

            async def streaming():
                return one.streaming == len(streams)

            await until(streaming, "the streams never began")
            assert await upload(sidecar, 100) == 200
            line = await file.reload(
                sidecar,
                says="SIGHUP: reloaded",
                pools=pools(0, 1),
                limits={"body_bytes": 50},
                timeouts={"total": 0.5},
            )
            assert line["changed"] == [
                "pools[0].endpoints[0].weight: 1.0 -> 0.0",
                "pools[0].endpoints[1].weight: 0.0 -> 1.0",
                "limits.body_bytes: 0 -> 50",
                "timeouts.total: 0.0 -> 0.5",
            ]
            for _ in range(8):
                assert await upload(sidecar, 100) == 413
            asked = two.requests
            for _ in range(8):
                assert await upload(sidecar, 50) == 200
            assert two.requests == asked + 8
            one.may_end.set()
            await asyncio.gather(*streams)
            for client in clients:
                client.close()
            books = await balanced(sidecar)
            assert books["outcomes"]["complete"] + books["outcomes"]["bad_request"] == books["started"]
            after = await health(sidecar)
            assert pids(after, "relay") == pids(before, "relay")
            assert pids(after, "observer") == pids(before, "observer")


async def test_a_bad_configuration_is_refused_as_a_whole_and_the_old_one_stays(tmp_path):
    file = Written(tmp_path)
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        line = await file.reload(
            sidecar, says="nothing is changed", limits={"body_bytes": 50}, timeouts={"total": -1}
        )
        assert line["level"] == "error"
        assert line["event"].endswith(
            "driftline.yaml:1: timeouts.total: -1 is too small: at least 0; nothing is changed"
        )
        assert await upload(sidecar, 100) == 200
        await file.reload(sidecar, says="SIGHUP: reloaded", timeouts={})
        assert await upload(sidecar, 100) == 413


async def test_keys_that_need_a_restart_are_named_in_one_line_and_the_rest_is_applied(tmp_path):
    file = Written(tmp_path)
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        line = await file.reload(sidecar, says="needs a restart", state_dir="x", limits={"body_bytes": 50})
        assert line["event"] == f'needs a restart: state_dir: "{tmp_path}/state" -> "x"'
        await logged(sidecar, "SIGHUP: reloaded")
        assert await upload(sidecar, 100) == 413


async def test_what_only_the_observer_uses_is_changed_without_losing_a_record(tmp_path):
    """Another observer takes its place; relays keep what they have to say until it listens."""
    file = Written(tmp_path)
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        before = await health(sidecar)
        stop = asyncio.Event()
        clients = [Client(sidecar.url) for _ in range(4)]

        async def ask(client):
            while not stop.is_set():
                await client.says("word")
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(ask(client))
            await file.reload(sidecar, says="SIGHUP: reloaded", capture={"content": True})
            stop.set()
        for client in clients:
            client.close()
        after = await health(sidecar)
        assert pids(after, "relay") == pids(before, "relay")
        assert pids(after, "observer") != pids(before, "observer")
        assert [(p["replaced"], p["restarts"]) for p in after["processes"] if p["role"] == "observer"] == [
            (1, 0)
        ]
        books = await balanced(sidecar)
        assert (books["dropped"], books["outcomes"]) == ({}, {"complete": books["started"]})


@linux
async def test_a_configuration_that_the_observer_cannot_run_with_is_taken_back(tmp_path):
    """Nothing of it stays, for the relays neither; the old observer's successor runs with the old one."""
    file = Written(tmp_path)
    async with upstream() as server, running(server.url, tmp_path) as sidecar:
        old = await health(sidecar)
        killing = asyncio.create_task(kill_successors(sidecar.process.pid, "observer", pids(old, "observer")))
        line = await file.reload(
            sidecar, says="nothing is changed", capture={"content": True}, limits={"body_bytes": 50}
        )
        killing.cancel()
        assert (
            line["event"] == "SIGHUP: the observer does not run with this configuration; nothing is changed"
        )
        assert await upload(sidecar, 100) == 200

        async def back():
            return pids(await health(sidecar), "observer") != [None]

        await until(back, "no observer came back")
        again = await file.reload(sidecar, says="SIGHUP: reloaded", limits={})
        assert again["changed"] == ["capture.content: null -> true"]


async def test_a_renewed_certificate_and_a_rolling_restart_behind_tls_fail_no_request(tmp_path, monkeypatch):
    """New connections get the new certificate at once; nobody else notices anything."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    issue(authority, tmp_path, "first.example")
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    file = Written(tmp_path)
    async with upstream() as server, running(server.url, tmp_path, configuration={"tls": files}) as sidecar:
        assert sidecar.url.startswith("https://")
        stop = asyncio.Event()
        clients = [Client(sidecar.url, ssl=ssl.create_default_context()) for _ in range(9)]

        async def ask(n, client):
            while not stop.is_set():
                kinds = {0: client.says, 1: client.streams, 2: lambda _: client.pipelines(["a", "b", "c"])}
                await kinds[n % 3](str(n))
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for n, client in enumerate(clients):
                group.create_task(ask(n, client))
            issue(authority, tmp_path, "second.example")
            await file.reload(sidecar, says="SIGHUP: reloaded")
            new = Client(sidecar.url, ssl=ssl.create_default_context(), server_hostname="second.example")
            await new.says("renewed")
            os.kill(sidecar.process.pid, signal.SIGUSR2)
            await logged(sidecar, "all processes are replaced")
            stop.set()
        for client in [*clients, new]:
            client.close()
        books = await balanced(sidecar)
        assert (books["dropped"], books["outcomes"]) == ({}, {"complete": books["started"]})


def issue(authority, folder, name):
    made = authority.issue_cert("127.0.0.1", name)
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(folder / "key.pem")
