import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE

import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner

from driftline.commands.traffic import command
from driftline.simulate.traffic import Model, Traffic, first_model
from driftline.simulate.upstream import MODEL, SimulatedUpstream
from driftline.simulate.workload import PROFILES, Workload, known_shift


def traffic_to(url, *shifts, profile="mixed", rate=400, **more):
    workload = Workload(PROFILES[profile], model=MODEL, most_tokens=8)
    workload.shifts = [known_shift(word) for word in shifts]
    return Traffic(url, workload, rate=rate, **more)


async def sent_to(url, *shifts, **more):
    async with traffic_to(url, *shifts, **more) as traffic:
        await traffic.run(until=0.5)
        await traffic.drain()
        return traffic.tally


async def test_everything_sent_is_accounted_for(url, upstream):
    """Answered, left or failed; and the server saw as many."""
    tally = await sent_to(url, "errors=0.2")
    assert tally.sent > 100
    assert tally.sent == tally.ok + tally.left + sum(tally.failed.values())
    assert tally.failed.keys() == {"HTTP 500"}
    assert upstream.totals.requests == tally.sent - tally.failed["HTTP 500"]
    assert tally.in_flight == 0


async def test_tokens_are_those_the_server_reports(http, upstream, url):
    """Counted where the reply says; streams of clients that did not ask do not say."""
    upstream.totals.prompt_tokens = 0
    workload = Workload(msgspec.structs.replace(PROFILES["code"], streaming=0), model=MODEL)
    async with Traffic(url, workload, rate=200) as traffic:
        await traffic.run(until=0.25)
        await traffic.drain()
    assert traffic.tally.input_tokens == upstream.totals.prompt_tokens > 0
    assert traffic.tally.output_tokens == upstream.totals.generation_tokens > 0


async def test_arrivals_do_not_depend_on_the_server(upstream):
    """An open loop: a server that answers slowly gets the same requests as one that answers at once."""
    slow = SimulatedUpstream(time_scale=100)
    async with upstream.serving() as fast_url, slow.serving() as slow_url:
        fast = await sent_to(fast_url)
        async with traffic_to(slow_url) as traffic:
            await traffic.run(until=0.5)
            assert traffic.tally.sent == fast.sent
            assert traffic.tally.in_flight == fast.sent


async def test_requests_beyond_the_bound_are_held_back(url):
    tally = await sent_to(url, concurrency=1)
    assert tally.held_back > 0
    assert tally.sent == tally.ok + tally.left


async def test_leaving_the_context_hangs_up(http):
    """No request outlives the traffic that sent it."""
    upstream = SimulatedUpstream(time_scale=100)
    async with upstream.serving() as url:
        async with traffic_to(url) as traffic:
            await traffic.run(until=0.2)
        async with asyncio.timeout(10):
            while upstream.engine.running:
                await asyncio.sleep(0.005)
    assert upstream.totals.aborted == upstream.totals.requests > 0


async def test_clients_that_leave_are_counted_apart(upstream, url):
    """They hang up after the first content; the server sees it as an abort."""
    upstream = SimulatedUpstream(time_scale=1)
    profile = msgspec.structs.replace(PROFILES["chat"], streaming=1, leaving=1)
    async with (
        upstream.serving() as url,
        Traffic(url, Workload(profile, model=MODEL), rate=200) as traffic,
    ):
        await traffic.run(until=0.25)
        await traffic.drain()
    assert traffic.tally.left == traffic.tally.sent > 0
    assert upstream.totals.aborted > 0.9 * traffic.tally.sent


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b'data: {"choices":[]}\n\n', "the stream ended early"),
        (b'data: {"error":{"message":"no"}}\n\ndata: [DONE]\n\n', "error in the stream"),
    ],
)
async def test_a_broken_stream_is_a_failure(stream, kind):
    """Under HTTP 200 too: one without its end, and one that tells of an error."""

    async def broken(_):
        return web.Response(body=stream, headers={"content-type": "text/event-stream"})

    app = web.Application()
    app.router.add_post("/{path:.*}", broken)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        tally = await sent_to(f"http://127.0.0.1:{runner.addresses[0][1]}", rate=20)
    finally:
        await runner.cleanup()
    assert tally.failed == {kind: tally.sent}


async def test_the_model_is_the_first_one_listed(url):
    assert await first_model(url) == Model(id=MODEL, max_model_len=32_768)


async def driftline_traffic(*words):
    """Exit code, output and progress of the command, run as users run it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "driftline", "traffic", *words, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_sends_shifts_and_sums_up(url, upstream):
    """The shift begins when it was asked to, and the summary is JSON for machines."""
    code, out, err = await driftline_traffic(
        *["--target", url, "--rate", "200", "--duration", "1", "--max-tokens", "8", "--json"],
        *["--shift", "errors=1", "--after", "0.5"],
    )
    summary = json.loads(out)
    assert code == 0
    assert summary["sent"] == summary["ok"] + summary["left"] + summary["failed"]["HTTP 500"]
    assert upstream.totals.requests == summary["sent"] - summary["failed"]["HTTP 500"]
    assert err.splitlines() == [
        f"chat traffic to {url}, model simulated-8b, 200 requests/s",
        "shift: errors=1 (this share of requests fails)",
    ]


async def test_lengths_fit_a_short_context_by_themselves():
    """No request is refused for its length, although prompts double."""
    short = SimulatedUpstream(time_scale=0, max_model_len=2_048)
    async with short.serving() as url:
        code, out, err = await driftline_traffic(
            *["--target", url, "--rate", "200", "--duration", "1", "--shift", "longer_prompts=2", "--json"],
        )
    assert (code, json.loads(out)["failed"]) == (0, {})
    assert "all lengths times 0.125, so that the longest fit the model's context" in err


async def test_a_target_that_does_not_answer_is_an_error(unused_tcp_port):
    """With the address and the reason, and exit code 1."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    code, out, err = await driftline_traffic("--target", url)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: {url}/v1/models does not answer: Cannot connect to host")


async def test_no_answer_at_all_is_exit_code_1(url):
    """Where every request failed, a script sees it."""
    code, _, _ = await driftline_traffic(
        *["--target", url, "--rate", "100", "--duration", "0.2", "--shift", "errors=1"]
    )
    assert code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_run_still_sums_up(upstream, url, number):
    """Ctrl-C is how a run without a duration ends: exit code 0."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "driftline", "traffic", "--target", url, "--rate", "200", "--json"],
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(20):
        while upstream.totals.finished < 20:
            await asyncio.sleep(0.01)
    process.send_signal(number)
    out, _ = await process.communicate()
    assert (process.returncode, json.loads(out)["ok"] >= 20) == (0, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Missing option '--target'"),
        (["--target", "127.0.0.1:8080"], "'127.0.0.1:8080' is not a server: write http://host:port"),
        (["--target", "http://x", "--profile", "batch"], "'batch' is not one of 'chat', 'code', 'mixed'"),
        (
            ["--target", "http://x", "--shift", "longer"],
            "'longer' is not a shift; there are longer_prompts, refusals",
        ),
        (["--target", "http://x", "--rate", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_bad_input_says_what_would_do(words, says):
    """Before anything is sent, with exit code 2."""
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 2
    assert says in result.output
