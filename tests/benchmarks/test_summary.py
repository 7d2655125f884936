"""Figures are medians over rounds; ratios and added times are taken within a round."""

import pytest

from benchmarks import loads, report, summary
from benchmarks.judge import Bursts, Quantiles, RequestResult, StreamResult
from benchmarks.turn import Cost, Measured, Turn

STREAMS = loads.spread(10, 100, 10, requests=1, ramp=0.0, held=True)
PLAIN = loads.Requests(connections=4, seconds=0.5)


def turn(peer, *, chunk_us=0.0, request_us=0.0, latency=1.0, foreign=0.0, interval_ms=10.0, faults=None):
    """A turn of 1,000 tokens and 100 requests."""
    times = Quantiles(latency, latency, latency, latency)
    roles = [] if peer == "direct" else ["proxy"]

    def cost(seconds):
        return Cost(dict.fromkeys(roles, seconds), 1.0, foreign, 0.5, 0.0, {})

    streams = StreamResult(
        asked=10,
        complete=10,
        faults=faults or {},
        tokens=1000,
        seconds=1.0,
        connections=10,
        most_at_once=10,
        reads_per_token=1.0,
        bytes_per_token=240.0,
        interval_ms=interval_ms,
        tokens_per_second=1000.0,
        tokens_in_peak_second=1000,
        first_token=times,
        token=times,
        time_per_token=times,
        stalls=int(latency),
        bursts=Bursts(times, times),
    )
    plain = RequestResult(complete=100, faults={}, seconds=0.5, connections=4, latency=times)
    return Turn(
        peer=peer,
        telemetry="none",
        measured={
            "held": Measured(
                STREAMS, streams, cost(chunk_us / 1000), chunk_us / 1000, dict.fromkeys(roles, 12 * 2**20)
            ),
            "requests": Measured(PLAIN, plain, cost(request_us / 10_000), request_us / 10_000),
        },
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


def of(seen, peer, load="held"):
    """One peer under one load."""
    (found,) = [one for one in summary.summarise(seen) if (one.peer, one.load) == (peer, load)]
    return found


def test_ratios_are_of_one_round_and_their_median_is_given():
    """A slow minute that doubles everything leaves the ratio alone."""
    seen = rounds((10, 12), (20, 24), (10, 15))
    streamed, plain = of(seen, "proxy"), of(seen, "proxy", "requests")
    assert streamed.unit_us == summary.Figure(pytest.approx(15), pytest.approx(12), pytest.approx(24))
    assert streamed.ratio == summary.Figure(pytest.approx(1.2), pytest.approx(1.2), pytest.approx(1.5))
    assert plain.unit_us.median == pytest.approx(50)
    assert plain.ratio.median == pytest.approx(2.5)


def test_added_time_is_above_no_proxy_at_all():
    """What load generator and upstream take themselves is not the proxy's."""
    seen = rounds((10, 12))
    proxy = of(seen, "proxy")
    assert proxy.added["chunk p99"].median == pytest.approx(0.5)
    assert proxy.beyond_reference.median == pytest.approx(0.4)
    assert of(seen, "nginx").added["first token p50"].median == pytest.approx(0.1)
    assert of(seen, "direct").added["chunk p99"] is None


def test_a_round_without_the_reference_has_no_ratio():
    """A load that a peer took in the first round only is compared within that round."""
    seen = rounds((10, 12), (10, 30))
    del seen[1]["nginx"]
    assert of(seen, "proxy").ratio == summary.Figure(*[pytest.approx(1.2)] * 3)


def test_without_nginx_there_are_figures_but_no_ratios():
    """The benchmark runs with whatever is installed."""
    alone = of([{"proxy": turn("proxy", chunk_us=12)}], "proxy")
    assert alone.unit_us.median == pytest.approx(12)
    assert (alone.ratio, alone.added["chunk p99"], alone.beyond_reference) == (None, None, None)


def test_what_a_gpu_needs_is_its_rate_times_the_cpu_of_a_chunk():
    """16,200 chunks a second at 20 µs are 32.4 % of a core."""
    assert of(rounds((10, 20)), "proxy").core_share(report.H100) == pytest.approx(0.324)


def test_memory_is_given_with_all_streams_open_and_after():
    """The two differ by what streams hold."""
    proxy = of(rounds((10, 20)), "proxy")
    assert (proxy.open_mib.median, proxy.after_mib.median) == (12, 10)


def test_faults_add_up_over_rounds():
    """One broken stream in any round is in the table."""
    seen = [{"proxy": turn("proxy", faults={"altered": n})} for n in (1, 0, 2)]
    assert of(seen, "proxy").faults == {"altered": 3}


def test_doubts_are_said():
    """Another process on the proxy's core, or an upstream that fell behind, is said beside the figures."""
    doubtful = [{"nginx": turn("nginx", foreign=0.3)}, {"nginx": turn("nginx", interval_ms=12.0)}]
    assert summary.warnings(doubtful) == [
        "In 2 of 4 loads others took up to 30% of the proxy's core",
        "In 1 of 2 loads the upstream was up to 20% slower than asked: the rig was the limit",
    ]
    assert summary.warnings(rounds((10, 12))) == []


def test_tables_can_be_put_into_a_document():
    """Every load has its table, with a column for each peer; a smaller load is marked."""
    held, *_ = report.grids(summary.summarise(rounds((10, 12))), slow=["proxy"])
    assert held.columns == ["", "direct", "nginx", "proxy *"]
    lines = held.markdown().splitlines()
    assert lines[2:4] == ["|  | direct | nginx | proxy * |", "| --- | ---: | ---: | ---: |"]
    assert "| µs of CPU per chunk | – | 10.0 | 12.0 |" in lines
    assert "| × nginx | – | 1.00 | 1.20 |" in lines
