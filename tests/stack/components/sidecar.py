"""The sidecar itself, as a user starts it: `driftline serve` in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.components.http import get, get_json
from tests.stack.components.process import Process

DRIFTLINE = Path(sys.executable).with_name("driftline")


@dataclass(frozen=True)
class Sidecar:
    url: str
    """Of the data port."""
    admin: str
    """Of the admin port."""
    process: Process

    def metrics(self) -> str:
        return get(f"{self.admin}/metrics")

    def api(self, path: str) -> Any:
        return get_json(f"{self.admin}/api/v1/{path}")


@contextmanager
def sidecar(
    upstream: str | None,
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    configuration: Mapping[str, Any] | None = None,
    before: Sequence[str] = (),
) -> Iterator[Sidecar]:
    """A sidecar that is ready, with its state in `directory`. `before`: what starts it, such as prlimit(1)."""
    file = directory / "driftline.yaml"
    file.write_text(json.dumps({"state_dir": str(directory / "state"), **(configuration or {})}))
    command = [
        *before,
        *(DRIFTLINE, "serve", "--config", file),
        *(("--upstream", upstream) if upstream else ()),
        *("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        *arguments,
    ]
    with Process("sidecar", command, directory=directory, environment=environment) as process:
        addresses = process.wait_until(lambda: _listening(process), deadline=60)
        running = Sidecar(addresses["url"], f"http://{addresses['admin']}", process)
        process.wait_until(lambda: get(f"{running.url}/-/ready"), deadline=60)
        yield running


def _listening(process: Process) -> dict[str, Any] | None:
    """What the log line `listening` says; None before it is there."""
    for line in process.log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "listening":
            return entry
    return None
