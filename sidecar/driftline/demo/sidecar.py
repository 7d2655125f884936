"""The sidecar of the demo: `driftline serve` as users start it, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_LOG_LINES = 40


class SidecarError(Exception):
    """The sidecar is not running, though nobody stopped it. The text is its log."""


class Sidecar:
    """Runs while its context is open.

    A session of its own keeps the terminal's Ctrl-C from it, so that the demo ends it, in order; and its
    process group tells whether anything of it is left.
    """

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self.data = ""
        """Base URL of the data port."""
        self.admin = ""
        """Base URL of the admin port."""
        self._folder = folder
        self._file = folder / "driftline.yaml"
        self._file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._listening = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # The demo's configuration is the file and nothing else; OTEL_* stays, so that spans can be sent on.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
        self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "driftline", "serve", "--config", str(self._file)],
            env={**kept, "DRIFTLINE_LOG": "json", "TMPDIR": str(self._folder)},
            stdin=DEVNULL,
            stderr=PIPE,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        try:
            await self._until_listening(self._process)
        except BaseException:
            await self._stop(self._process)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self._stop(self._process)

    async def ended(self) -> None:
        """Returns never: raises `SidecarError` when the process ends."""
        assert self._process is not None
        assert self._reading is not None
        code = await self._process.wait()
        await self._reading
        raise SidecarError(self._explained(f"The sidecar ended with exit status {code}."))

    async def _until_listening(self, process: asyncio.subprocess.Process) -> None:
        listening = asyncio.create_task(self._listening.wait())
        ended = asyncio.create_task(process.wait())
        done, _ = await asyncio.wait(
            {listening, ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (listening, ended):
            task.cancel()
        if listening in done:
            return
        if ended in done and self._reading is not None:
            await self._reading
            raise SidecarError(self._explained("The sidecar did not start."))
        raise SidecarError(self._explained(f"The sidecar did not listen within {_START_SECONDS:g} s."))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keeps the last lines of the log, and notes where the sidecar listens."""
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            try:
                facts = json.loads(line)
            except ValueError:
                self._log.append(line)
                continue
            self._log.append(
                f"{facts.get('role')}: {facts.get('event')} {facts.get('exception', '')}".rstrip()
            )
            if facts.get("event") == "listening":
                self.data, self.admin = f"http://{facts['data']}", f"http://{facts['admin']}"
                self._listening.set()

    def _explained(self, what: str) -> str:
        lines = "\n".join(f"  {line}" for line in self._log) or "  (it said nothing)"
        return f"{what} Its log:\n{lines}"

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        # What is left of the group, if it was killed or hangs, goes with it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if self._reading is not None:
            await self._reading
