"""The benchmark as it is run: processes are started, loaded, measured and ended."""

import json
import subprocess
import sys

from benchmarks import machine

SMALL = {
    "rounds": 1,
    "streams": 4,
    "requests": 2,
    "tokens": 4,
    "interval-ms": 1,
    "connections": 2,
    "seconds": 0.2,
}


def test_all_streams_arrive_through_the_proxy_and_its_cpu_time_is_counted(tmp_path):
    """What is printed is what is kept, and it is about a proxy that lost nothing."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--peers",
        "bare splice",
        "--json",
        "--results",
        str(tmp_path),
    ]
    command += [argument for name, value in SMALL.items() for argument in (f"--{name}", str(value))]
    done = subprocess.run(command, cwd=machine.ROOT, check=True, stdout=subprocess.PIPE)
    seen = json.loads(done.stdout)
    (turn,) = seen["rounds"][0].values()
    assert (turn["streams"]["complete"], turn["streams"]["tokens"]) == (8, 32)
    assert turn["streams"]["faults"] == turn["requests"]["faults"] == {}
    (splice,) = seen["summaries"]
    assert splice["chunk_us"]["median"] > 0
    assert splice["request_us"]["median"] > 0
    assert splice["memory_mib"]["median"] > 1
    assert [json.loads(file.read_text()) for file in tmp_path.iterdir()] == [seen]


def test_a_peer_nobody_knows_is_named():
    """A misspelled peer is an error that lists those there are."""
    command = [sys.executable, "-m", "benchmarks", "--peers", "ngnix"]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ngnix: not one of direct, nginx" in " ".join(done.stderr.split())
