"""The sidecar as a whole: processes that die, are restarted and are stopped, under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from driftline.config import AdminSettings, Config, Endpoint
from driftline.relay.settings import Pool
from driftline.simulate.upstream import SimulatedUpstream
from driftline.supervisor import Supervisor
from tests.running import DEADLINE, balanced, health, pids, running, until
from tests.stack.components.http import get
from tests.stack.components.sidecar import DRIFTLINE

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
STREAMS = 24
CHAT = {
    "model": "simulated-8b",
    "messages": [{"role": "user", "content": "Describe the sea at length, please."}],
    "max_tokens": 120,
    "stream": True,
}


@contextlib.asynccontextmanager
async def served(tmp_path, *arguments, **options):
    """A sidecar in front of a simulated server whose streams take some seconds."""
    async with (
        SimulatedUpstream(time_scale=4.0, seed=7).serving() as upstream,
        running(upstream, tmp_path, *arguments, **options) as started,
    ):
        yield started


async def stream(session, url, started=None):
    """'complete', or how it broke."""
    try:
        async with session.post(f"{url}/v1/chat/completions", json=CHAT) as response:
            if started is not None:
                started.set()
            text = await response.text()
    except aiohttp.ClientError as error:
        return type(error).__name__
    return "complete" if text.endswith("data: [DONE]\n\n") else "cut"


async def test_killing_the_observer_breaks_no_request(tmp_path):
    """It comes back, and every request is either observed or counted as lost with it."""
    async with served(tmp_path) as sidecar, aiohttp.ClientSession() as session:
        streams = [asyncio.create_task(stream(session, sidecar.url)) for _ in range(STREAMS)]
        await asyncio.sleep(0.2)
        (before,) = pids(await health(sidecar), "observer")
        os.kill(before, signal.SIGKILL)

        async def back():
            facts = await health(sidecar)
            return facts if pids(facts, "observer") not in ([before], [None]) else None

        facts = await until(back, "the observer never came back")
        assert await asyncio.gather(*streams) == ["complete"] * STREAMS
        assert [p["restarts"] for p in facts["processes"] if p["role"] == "observer"] == [1]
        books = await balanced(sidecar)
        # The readiness probe of the fixture is a request too, and health checks go to the admin port.
        assert books["outcomes"] == {"complete": books["started"]}
        assert books["started"] >= STREAMS


async def test_killing_a_relay_loses_its_own_connections_only(tmp_path):
    """The others' streams end whole; the port never refuses; the lost are counted as `relay_lost`."""
    async with served(tmp_path, "--relays", "2") as sidecar:
        victim = pids(await health(sidecar), "relay")[0]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            started = [asyncio.Event() for _ in range(STREAMS)]
            streams = [asyncio.create_task(stream(session, sidecar.url, event)) for event in started]
            await asyncio.wait_for(asyncio.gather(*(event.wait() for event in started)), DEADLINE)
            os.kill(victim, signal.SIGKILL)
            ends = await asyncio.gather(*streams)
            broken = len([end for end in ends if end != "complete"])
            assert 0 < broken < STREAMS

        async def restarted():
            facts = await health(sidecar)
            return sum(p["restarts"] for p in facts["processes"]) == 1 and None not in pids(facts, "relay")

        await until(restarted, "the relay never came back")
        async with aiohttp.ClientSession() as session:
            assert await asyncio.gather(*(stream(session, sidecar.url) for _ in range(8))) == ["complete"] * 8
        books = await balanced(sidecar)
        assert books["dropped"]["relay_lost"] == books["outcomes"]["relay_lost"] == broken


async def test_sigterm_lets_streams_end_and_exits_with_0(tmp_path):
    async with served(tmp_path) as sidecar, aiohttp.ClientSession() as session:
        started = [asyncio.Event() for _ in range(STREAMS)]
        streams = [asyncio.create_task(stream(session, sidecar.url, event)) for event in started]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in started)), DEADLINE)
        os.kill(sidecar.process.pid, signal.SIGTERM)

        async def refused():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", aiohttp.client.URL(sidecar.url).port)
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        await until(refused, "new clients are left waiting instead of being refused")
        assert not any(task.done() for task in streams)
        assert await asyncio.gather(*streams) == ["complete"] * STREAMS
        assert await asyncio.to_thread(sidecar.process.stop) == 0


async def test_no_process_outlives_a_killed_supervisor(tmp_path):
    async with served(tmp_path, "--relays", "2") as sidecar:
        facts = await health(sidecar)
        children = pids(facts, "relay") + pids(facts, "observer")
        os.kill(sidecar.process.pid, signal.SIGKILL)

        async def gone():
            return not any(alive(pid) for pid in children)

        await until(gone, "a child lives on")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("option", "relays"), [("--listen", "1"), ("--listen", "2"), ("--admin", "1")])
def test_a_port_in_use_is_named_with_the_fix(tmp_path, option, relays):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = {"--listen": "127.0.0.1:0", "--admin": "127.0.0.1:0"} | {option: address}
        words = [word for pair in addresses.items() for word in pair]
        result = subprocess.run(
            [DRIFTLINE, "serve", "--upstream", "http://127.0.0.1:9", "--relays", relays, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert result.returncode == 1
    assert f"{address} is in use by another process: stop it, or choose another port" in result.stderr


def test_an_unreachable_upstream_at_start_is_served_anyway(tmp_path):
    """Not ready, a clear log line, 502 to clients, and ready once it is there."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [DRIFTLINE, "serve", "--upstream", f"http://127.0.0.1:{port}", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--admin", "127.0.0.1:0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = (json.loads(line) for line in process.stderr)
            seen = {}
            while len(seen) < 2:
                line = next(lines)
                if line["event"] == "listening":
                    seen["listening"] = line
                if "is down" in line["event"]:
                    seen["down"] = line["event"]
            assert seen["down"].startswith(f"upstream 127.0.0.1:{port} is down: ")
            with pytest.raises(OSError, match="503"):
                get(f"http://{seen['listening']['admin']}/readyz")
            with pytest.raises(OSError, match="502"):
                get(f"http://{seen['listening']['data']}/v1/models")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


def rows(numbers):
    """The rows of counters that relays write, by their command lines."""
    return [Path(f"/proc/{pid}/cmdline").read_text().split("\0--row\0")[1].split("\0")[0] for pid in numbers]


@linux
async def test_an_observer_that_cannot_be_started_again_at_once_stops_no_traffic(tmp_path):
    """A machine out of descriptors, processes or memory for a moment: the relays go on, and it is tried again."""
    async with served(tmp_path) as sidecar, aiohttp.ClientSession() as session:
        pid = sidecar.process.pid
        (observer,) = pids(await health(sidecar), "observer")
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(
            pid, resource.RLIMIT_NOFILE, (len(list(Path(f"/proc/{pid}/fd").iterdir())), limits[1])
        )
        os.kill(observer, signal.SIGKILL)
        await asyncio.sleep(1.0)
        assert await stream(session, sidecar.url) == "complete"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

        async def back():
            return [None] != pids(await health(sidecar), "observer") != [observer]

        await until(back, "the observer never came back")


@linux
async def test_a_relay_that_starts_slowly_keeps_its_counters(tmp_path):
    """The observer must not close the books of a relay that is alive and has not connected yet."""

    async def hold_back():
        """Stops the second relay as soon as it exists, for longer than the observer takes to look twice."""
        while True:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    command = (folder / "cmdline").read_text()
                    parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                    ours = str(tmp_path) in Path(f"/proc/{parent}/cmdline").read_text()
                except OSError:
                    continue
                if ours and "driftline.relay" in command and "\0--row\0002\0" in command:
                    os.kill(int(folder.name), signal.SIGSTOP)
                    await asyncio.sleep(5.0)
                    os.kill(int(folder.name), signal.SIGCONT)
                    return int(folder.name)
            await asyncio.sleep(0.005)

    held_back = asyncio.create_task(hold_back())
    async with served(tmp_path, "--relays", "2") as sidecar:
        slow = await held_back
        (other,) = {*pids(await health(sidecar), "relay")} - {slow}
        os.kill(other, signal.SIGKILL)

        async def restarted():
            now = pids(await health(sidecar), "relay")
            return None not in now and other not in now and now

        now = await until(restarted, "the relay never came back")
        assert len({*rows(now)}) == 2


async def test_a_signal_that_cannot_be_heeded_stops_nothing(tmp_path, caplog):
    """Whatever goes wrong with what it asks for, the processes go on, and so do later signals."""
    caplog.set_level("INFO")
    pools = [Pool(endpoints=[Endpoint(url="http://127.0.0.1:1")])]
    config = Config(
        pools=pools, listen="127.0.0.1:0", admin=AdminSettings(listen="127.0.0.1:0"), state_dir=str(tmp_path)
    )

    def unreadable():
        raise RuntimeError("nobody thought of this")

    def said(text):
        async def check():
            return text in caplog.text

        return until(check, f"never said: {text}")

    served = asyncio.create_task(Supervisor(config, unreadable).run())
    await said("listening")
    os.kill(os.getpid(), signal.SIGHUP)
    await said("nobody thought of this")
    os.kill(os.getpid(), signal.SIGUSR2)
    await said("all processes are replaced")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(served, DEADLINE) == 0
