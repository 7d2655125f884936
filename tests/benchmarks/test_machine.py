"""CPU time, memory and pinning of processes."""

import subprocess
import sys

import psutil
import pytest

from benchmarks import machine

BURN = """
import time
while time.process_time() < 0.05: pass
print(time.process_time(), flush=True)
input()
"""


@pytest.fixture
def burner():
    """A process that used some CPU and now waits, and the CPU seconds it says it used."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        yield started, float(started.stdout.readline())
        started.communicate(b"\n")


def test_cpu_time_is_what_the_process_itself_says(burner):
    """Read from outside, the CPU clock has moved on by no more than the printing of the figure."""
    started, own = burner
    assert own <= machine.cpu_seconds(started.pid) < own + 0.02


def test_memory_is_the_processes_own(burner):
    """A Python process has some megabytes of its own, and not more than all it maps."""
    started, _ = burner
    assert 1e6 < machine.memory_bytes(started.pid) <= psutil.Process(started.pid).memory_info().rss


@pytest.mark.skipif(not machine.CAN_PIN, reason="cores cannot be chosen on this machine")
def test_the_proxy_has_a_core_for_itself(burner):
    """Proxy and rig share no core, and a running process is moved with all its threads."""
    cores = machine.Cores.of_this_machine()
    started, _ = burner
    machine.pin(started.pid, cores.proxy)
    assert not set(cores.proxy) & set(cores.rig)
    assert psutil.Process(started.pid).cpu_affinity() == list(cores.proxy)


def test_a_process_that_ends_at_once_is_told_from_a_slow_one(tmp_path):
    """A peer that does not start stops the benchmark with its name, not with a timeout."""
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        machine.process(command, (), log=tmp_path / "log") as started,
        pytest.raises(RuntimeError, match="with 3"),
    ):
        machine.wait_listening(machine.free_port(), started)
