"""The observer's benchmark drives the real service, and every span arrives."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.observer import record
from driftline import dialects
from driftline.exchange import decode


def test_it_prints_what_each_stage_takes() -> None:
    command = [sys.executable, "-m", "benchmarks.observer", "--calls", "100", "--rounds", "1", "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert list(figures) == ["plain", "16 tokens", "144 tokens", "an event"]
    stages = [
        "record",
        "dialect",
        "quality",
        "cost",
        "tracing",
        "metrics",
        "drift",
        "recent",
        "export",
        "all",
    ]
    assert all(list(one) == stages for one in figures.values())
    assert all(figures["plain"][stage] > 0 for stage in stages)


def test_its_calls_are_whole() -> None:
    """A call that could not be read would be a quick one."""
    for tokens in (0, 16):
        call = dialects.read(decode(record(7, tokens)))
        assert call is not None
        assert call.usage is not None
        assert (call.error_type, call.unread, call.usage.partial) == (None, [], False)
        assert (call.usage.output_tokens, call.finish_reasons) == (tokens or 40, ["length"])
