"""`driftline demo` as a newcomer runs it: real processes, real sockets, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from driftline.listeners import Address, listen, spelled

TRACE = re.compile(r"http://\S+/api/v1/traces/[0-9a-f]{32}")
ANY_PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


class Demo:
    """A running demo, and what it printed so far."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.pids = []

    def until(self, words):
        """The first line that holds `words`."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if words in line:
                return self.lines[-1]
        raise AssertionError(f"ended without {words!r}:\n" + "\n".join(self.lines))

    def started(self):
        """Where the console is; notes every process of the sidecar."""
        console = re.search(r"console on (\S+)/ ", self.until("console on"))[1]
        self.pids = [process["pid"] for process in get(f"{console}/healthz")["processes"]]
        assert len(self.pids) == 3
        return console

    def end(self):
        """Exit status, and what it printed last."""
        output, _ = self.process.communicate(timeout=30)
        self.lines += output.splitlines()
        return self.process.returncode


@pytest.fixture
def scratch():
    """For temporary files. Short: the path of a Unix socket in it has to fit 104 bytes."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@contextmanager
def demo(scratch, *words):
    process = subprocess.Popen(
        [sys.executable, "-m", "driftline", "demo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    with process:
        try:
            yield Demo(process)
        finally:
            process.kill()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def left(pids):
    """Those that still run. One that was killed may be a zombie for a while, where nobody waits for orphans."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [
        process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def test_the_demo_shows_longer_prompts_being_noticed(scratch):
    """Learning, stable, longer prompts, an incident on input_tokens with its calls, and back: exit status 0."""
    with demo(scratch, "--once", "--rate", "160", *ANY_PORTS) as running:
        running.started()
        running.until("steady: ")
        running.until("longer prompts: ")
        running.until("on input_tokens, opened")
        links = [TRACE.search(running.until("/api/v1/traces/"))[0]]
        calls = [get(link)["calls"] for link in links]
        assert running.end() == 0
    explanation = next(line for line in running.lines if "input_tokens of simulated-8b moved" in line)
    assert re.search(
        r"moved over 3s \([\d,]+ calls\): .* tokens went from [\d.]+% to [\d.]+%.*; PSI is [\d.]+ where [\d.]+ is allowed",
        explanation,
    )
    assert all(call["model"] == "simulated-8b" and call["input_tokens"] > 1_000 for (call,) in calls)
    assert any("incident on input_tokens closed: " in line for line in running.lines)
    assert left(running.pids) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(scratch, number):
    """Ctrl-C, a service manager, a closed terminal: no process and no file is left, exit status 0."""
    with demo(scratch, *ANY_PORTS) as running:
        running.started()
        running.until("requests relayed")
        running.process.send_signal(number)
        assert running.end() == 0
    assert left(running.pids) == []
    assert list(scratch.iterdir()) == []


def test_a_sidecar_that_dies_ends_the_demo(scratch):
    """With its log and exit status 1; what it left behind is ended too."""
    with demo(scratch, *ANY_PORTS) as running:
        running.started()
        os.kill(running.pids[0], signal.SIGKILL)
        assert running.end() == 1
    assert any("Error: The sidecar ended with exit status -9. Its log:" in line for line in running.lines)
    assert left(running.pids) == []
    assert list(scratch.iterdir()) == []


def test_a_taken_port_is_replaced_and_told(scratch):
    """A newcomer who has something on 8080 gets a demo all the same."""
    with (
        listen(Address("127.0.0.1:0")) as taken,
        demo(scratch, *ANY_PORTS, "--listen", spelled(taken)) as running,
    ):
        running.started()
        running.process.terminate()
        assert running.end() == 0
        words = (
            f"{spelled(taken)} is in use by another process: stop it, or choose another port: taking another"
        )
    assert words in running.lines
