"""The benchmark as it is run: processes are started, loaded, measured and ended."""

import json
import subprocess
import sys

from benchmarks import machine


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=False)


def test_all_streams_arrive_through_the_proxy_and_its_cpu_time_is_counted(tmp_path, monkeypatch):
    """What is printed is what is kept, and it is about a proxy that lost nothing."""
    monkeypatch.setenv("BENCH_RECORDING", str(tmp_path / "absent"))
    results = tmp_path / "results"
    given = ["--scenario", "requests", "--scenario", "recorded", "--peers", "bare splice", "--quick"]
    done = run(*given, "--json", "--results", str(results))
    assert "recorded left out: no rust-frontend/chunks.csv.gz" in done.stderr
    seen = json.loads(done.stdout)
    (turn,) = seen["rounds"][0].values()
    measured = turn["measured"]["requests"]
    assert measured["result"]["complete"] > 0
    assert measured["result"]["faults"] == {}
    (splice,) = seen["summaries"]
    assert splice["unit_us"]["median"] > 0
    assert splice["after_mib"]["median"] > 1
    assert [json.loads(file.read_text()) for file in results.iterdir()] == [seen]


def test_a_peer_nobody_knows_is_named():
    """A misspelled peer is an error that lists those there are."""
    done = run("--peers", "ngnix")
    assert done.returncode == 2
    assert "ngnix: not one of direct, nginx" in " ".join(done.stderr.split())


def test_a_peer_without_a_part_in_what_is_asked_for_is_said():
    """Nothing is measured, and no empty table printed."""
    done = run("--peers", "direct", "--scenario", "relays")
    assert done.returncode == 2
    assert "no part in relays" in " ".join(done.stderr.split())
