"""`make bench` on the real peers: that it works and loses nothing, not how fast anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine import Cores
from benchmarks.peers.driftline import Driftline
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.vllm_router import VllmRouter
from benchmarks.turn import Options, Turn, take
from tests.stack.components import required

SMALL = Options(streams=8, requests=2, tokens=16, interval_ms=2, connections=4, seconds=0.2)


def test_nginx_relays_every_stream(tmp_path: Path) -> None:
    """Its configuration here is such that streams arrive whole, and its CPU time is counted."""
    required.command("nginx")
    assert_whole(take(Nginx(), SMALL, Cores.of_this_machine(), tmp_path))


@pytest.mark.skipif(bool(VllmRouter().missing()), reason=VllmRouter().missing())
def test_vllm_router_relays_every_stream(tmp_path: Path) -> None:
    """Installed by `make bench-peers` only: nothing but the benchmark needs it."""
    assert_whole(take(VllmRouter(), SMALL, Cores.of_this_machine(), tmp_path))


def test_the_sidecar_relays_every_stream_and_records_every_request(tmp_path: Path) -> None:
    """Byte for byte what the upstream said, the injected usage cut out; one span for each request."""
    peer = Driftline("driftline", "all", exporting=True)
    turn = take(peer, SMALL, Cores.of_this_machine(), tmp_path)
    assert_whole(turn)
    assert turn.stream_load.facts == books(16)
    assert turn.request_load.facts == books(turn.requests.complete)
    assert set(turn.memory) == {"relay", "observer", "supervisor"}


def assert_whole(turn: Turn) -> None:
    assert (turn.streams.complete, turn.streams.tokens) == (16, 256)
    assert turn.streams.faults == turn.requests.faults == {}
    assert turn.requests.complete > 0
    assert turn.proxy_cpu(turn.stream_load) > 0
    assert turn.proxy_cpu(turn.request_load) > 0


def books(requests: int) -> dict[str, Any]:
    return {
        "requests": requests,
        "observed": requests,
        "not observed": 0,
        "spans received": requests,
        "spans dropped": 0,
    }
