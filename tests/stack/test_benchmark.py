"""`make bench` on the real peers: that it works and loses nothing, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import loads
from benchmarks.machine import ROOT, Cores
from benchmarks.peers.driftline import Driftline
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.portkey import Portkey
from benchmarks.peers.vllm_router import VllmRouter
from benchmarks.turn import Turn, take
from tests.stack.components import required

SMALL: dict[str, loads.Load] = {
    "held": loads.spread(8, 16, 2, requests=2, ramp=1.0, held=True),
    "requests": loads.Requests(connections=4, seconds=0.2),
}


def test_nginx_relays_every_stream(tmp_path: Path) -> None:
    """Its configuration here is such that streams arrive whole, and its CPU time is counted."""
    required.command("nginx")
    assert_whole(take(Nginx(), SMALL, Cores.of_this_machine(), tmp_path))


@pytest.mark.skipif(bool(VllmRouter().missing()), reason=VllmRouter().missing())
def test_vllm_router_relays_every_stream(tmp_path: Path) -> None:
    """Installed by `make bench-peers` only: nothing but the benchmark needs it."""
    assert_whole(take(VllmRouter(), SMALL, Cores.of_this_machine(), tmp_path))


@pytest.mark.skipif(bool(Portkey().missing()), reason=Portkey().missing())
def test_portkey_answers_every_request(tmp_path: Path) -> None:
    """Of streams it has no part: Portkey 1.15 answers none on Node 20."""
    plain = take(Portkey(), {"requests": SMALL["requests"]}, Cores.of_this_machine(), tmp_path).measured[
        "requests"
    ]
    assert plain.units > 0
    assert plain.result.faults == {}


@pytest.mark.parametrize(("relays", "roles"), [(1, {"relay"}), (2, {"relay", "relay 2"})])
def test_the_sidecar_relays_every_stream_and_records_every_request(
    relays: int, roles: set[str], tmp_path: Path
) -> None:
    """Byte for byte what the upstream said, the injected usage cut out; one span for each request."""
    peer = Driftline("driftline", "all", exporting=True, relays=relays)
    turn = take(peer, SMALL, Cores.of_this_machine(), tmp_path)
    assert_whole(turn)
    assert turn.measured["held"].cost.facts == books(16)
    assert turn.measured["requests"].cost.facts == books(turn.measured["requests"].units)
    assert set(turn.memory) == roles | {"observer", "supervisor"}
    assert turn.proxy_roles == sorted(roles)


def assert_whole(turn: Turn) -> None:
    streams, plain = turn.measured["held"], turn.measured["requests"]
    assert (streams.chunks.complete, streams.chunks.tokens) == (16, 256)
    assert streams.result.faults == plain.result.faults == {}
    assert plain.units > 0
    assert streams.proxy_cpu > 0
    assert plain.proxy_cpu > 0
    assert streams.memory is not None
    assert all(size > 0 for size in streams.memory.values())


def books(requests: int) -> dict[str, Any]:
    return {
        "requests": requests,
        "observed": requests,
        "not observed": 0,
        "spans received": requests,
        "spans dropped": 0,
    }


def test_a_soak_answers_and_observes_every_request() -> None:
    """Mixed streams and plain requests; whether memory is flat takes more of them than a test has time for."""
    command = [sys.executable, "-m", "benchmarks.soak", "--requests", "1000", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seen = json.loads(done.stdout)
    assert [line for line in seen["wrong"] if not line.startswith("memory grows")] == []
    assert done.returncode == bool(seen["wrong"])
    first, *_, last = seen["samples"]
    assert (first["requests"], last["requests"]) == (0, 1000)
    assert {name: last["facts"][name] - first["facts"][name] for name in last["facts"]} == books(1000)
