"""Two sidecars never share their state."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from driftline.state_dir import claim


def test_a_directory_in_use_is_refused_with_its_holder_and_the_fix(tmp_path):
    with (
        claim(tmp_path / "state"),
        pytest.raises(OSError, match=f"in use by process {os.getpid()}: give this sidecar one of its own"),
    ):
        claim(tmp_path / "state")
    claim(tmp_path / "state").close()


def test_a_killed_holder_leaves_nothing_behind(tmp_path):
    """The lock is the kernel's: after kill -9 the next sidecar starts."""
    program = "import sys, os; from pathlib import Path; from driftline.state_dir import claim; lock = claim(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False).returncode == -9
    claim(tmp_path).close()


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written: Not a directory; choose another one"):
        claim(tmp_path / "file" / "state")
