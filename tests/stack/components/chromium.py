"""Headless Chromium by its command line: what a page looks like once its scripts have run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.stack.components import required

# Without a sandbox, as CI runs as root; without the requests Chromium makes of its own accord.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Chromium:
    def __init__(self, directory: Path) -> None:
        self._binary = required.command("chromium")
        self._directory = directory

    def html(self, url: str, *, after: float = 2.0) -> str:
        """The document after `after` seconds of the page's own (virtual) time."""
        return self._run(url, "--dump-dom", after=after)

    def screenshot(
        self, url: str, file: Path, *, size: tuple[int, int] = (1280, 900), after: float = 2.0
    ) -> Path:
        self._run(url, f"--screenshot={file}", f"--window-size={size[0]},{size[1]}", after=after)
        return file

    def _run(self, url: str, *arguments: str, after: float) -> str:
        budget = f"--virtual-time-budget={int(after * 1000)}"
        profile = f"--user-data-dir={self._directory}"
        command = [str(self._binary), *FLAGS, profile, budget, *arguments, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
