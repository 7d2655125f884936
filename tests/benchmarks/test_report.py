"""Figures are medians over rounds; ratios and added times are taken within a round."""

import pytest

from benchmarks import report
from benchmarks.load import Quantiles, RequestResult, StreamResult
from benchmarks.turn import Load, Turn


def turn(peer, *, chunk_us=0.0, request_us=0.0, latency=1.0, foreign=0.0, interval_ms=10.0, faults=None):
    """A turn of 1,000 tokens and 100 requests."""
    times = Quantiles(latency, latency, latency, latency)
    roles = [] if peer == "direct" else ["proxy"]
    return Turn(
        peer=peer,
        telemetry="none",
        streams=StreamResult(10, 10, faults or {}, 1000, 1.0, 10, 1.0, interval_ms, times, times),
        stream_load=Load(dict.fromkeys(roles, chunk_us / 1000), 1.0, foreign, 0.5, 0.0, {}),
        requests=RequestResult(100, {}, 0.5, 4, times),
        request_load=Load(dict.fromkeys(roles, request_us / 10_000), 1.0, 0.0, 0.5, 0.0, {}),
        idle=dict.fromkeys(roles, 0.0),
        memory=dict.fromkeys(roles, 10 * 2**20),
        proxy_roles=roles,
    )


def rounds(*chunk_us):
    """Rounds in which nginx and a proxy took (nginx, proxy) µs per chunk."""
    return [
        {
            "direct": turn("direct", latency=1.0),
            "nginx": turn("nginx", chunk_us=nginx, request_us=20, latency=1.1),
            "proxy": turn("proxy", chunk_us=proxy, request_us=50, latency=1.5),
        }
        for nginx, proxy in chunk_us
    ]


def test_ratios_are_of_one_round_and_their_median_is_given():
    """A slow minute that doubles everything leaves the ratio alone."""
    proxy = report.summarise(rounds((10, 12), (20, 24), (10, 15)))[2]
    assert proxy.chunk_us == report.Figure(pytest.approx(15), pytest.approx(12), pytest.approx(24))
    assert proxy.chunk_ratio == report.Figure(pytest.approx(1.2), pytest.approx(1.2), pytest.approx(1.5))
    assert proxy.request_us.median == pytest.approx(50)
    assert proxy.request_ratio.median == pytest.approx(2.5)


def test_added_time_is_above_no_proxy_at_all():
    """What load generator and upstream take themselves is not the proxy's."""
    summaries = {summary.peer: summary for summary in report.summarise(rounds((10, 12)))}
    assert summaries["proxy"].token_p99.median == pytest.approx(0.5)
    assert summaries["nginx"].first_token_p50.median == pytest.approx(0.1)
    assert summaries["direct"].token_p99 is None


def test_without_nginx_there_are_figures_but_no_ratios():
    """The benchmark runs with whatever is installed."""
    (summary,) = report.summarise([{"proxy": turn("proxy", chunk_us=12)}])
    assert summary.chunk_us.median == pytest.approx(12)
    assert (summary.chunk_ratio, summary.token_p99) == (None, None)


def test_faults_add_up_over_rounds():
    """One broken stream in any round is in the table."""
    summaries = report.summarise([{"proxy": turn("proxy", faults={"altered": n})} for n in (1, 0, 2)])
    assert summaries[0].faults == {"altered": 3}


def test_doubts_are_said():
    """Another process on the proxy's core, or an upstream that fell behind, is said beside the figures."""
    doubtful = [{"nginx": turn("nginx", foreign=0.3)}, {"nginx": turn("nginx", interval_ms=12.0)}]
    assert report.warnings(doubtful, 10.0) == [
        "In 1 of 4 loads others took up to 30% of the proxy's core",
        "In 1 of 2 loads the upstream was up to 20% slower than asked",
    ]
    assert report.warnings(rounds((10, 12)), 10.0) == []
