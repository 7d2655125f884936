"""`make chaos` on the real sidecar, short: the promises hold when its processes are killed under load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT


def test_the_promises_hold_whatever_is_killed(tmp_path: Path) -> None:
    """Every broken request belongs to a killed process, whole answers are byte-exact, and the books balance."""
    command = [sys.executable, "-m", "chaos", "--seconds", "20", "--seed", "4", "--results", str(tmp_path)]
    run = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    (file,) = tmp_path.glob("*.json")
    document = json.loads(file.read_text())
    figures = document["figures"]
    assert document["problems"] == []
    assert min(figures["processes"]["killed"][role] for role in ("observer", "relays", "upstream")) > 0
    for row in ("ended whole, byte-exact", "left by its client", "relay killed", "upstream killed"):
        assert figures["requests"][row]["all"] > 0, row
