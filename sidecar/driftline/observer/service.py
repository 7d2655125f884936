"""The observer: exchanges in, calls out to everyone who watches, and what the admin port shows of it all."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from driftline import __version__, dialects
from driftline.call import Call
from driftline.config import Config
from driftline.console.app import application
from driftline.cost.prices import TokenPricer
from driftline.drift.special import special
from driftline.drift.store import Store
from driftline.exchange import Exchange, decode
from driftline.metrics import Metrics
from driftline.observer.intake import Intake
from driftline.observer.recent import RecentCalls
from driftline.observer.watching import DriftWatch
from driftline.quality import Quality
from driftline.tracing.observer import TraceObserver
from driftline.tracing.resource import resource

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 5.0
_KEYS = ("model", "variant", "team", "operation", "outcome", "error_type", "session", "user")


class Service:
    """Implements the console's `View`."""

    def __init__(self, config: dict[str, Any], intake: Intake) -> None:
        self._config = msgspec.convert(config, Config)
        self._intake = intake
        self._started = time.time()
        self.processes: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()
        """Calls that an observer failed on, by observer."""
        self._recent = RecentCalls()
        self._drift = DriftWatch(self._config.drift, Store(Path(self._config.state_dir)), self._started)
        self._tracing = TraceObserver.start(
            self._config.exporters, self._config.capture, os.environ, intake.block.tally
        )
        self._metrics = Metrics(
            relay=intake.block.totals,
            exports={"traces": self._tracing},
            faults=self.faults,
            drift=self._drift,
            started=self._started,
            resource=resource(os.environ),
            environ=os.environ,
        )
        # In order: what enriches the call first, what reports it after.
        self.observers: list[tuple[str, Callable[[Call], None]]] = [
            ("quality", Quality(self._config.quality).observe),
            ("cost", TokenPricer(self._config.prices).observe),
            ("tracing", self._tracing.observe),
            ("metrics", self._metrics.observe),
            ("drift", self._drift.observe),
            ("recent", self._recent.observe),
        ]
        self.untraced = 0
        """Exchanges that are no call: passed on, counted, nothing else."""
        self._runner: web.AppRunner | None = None
        self._warming: asyncio.Task[None] | None = None

    async def start(self, admin: socket.socket) -> None:
        """Serve the admin port."""
        self._runner = web.AppRunner(
            application(self, self._config.admin), access_log=None, handle_signals=False
        )
        await self._runner.setup()
        await web.SockSite(self._runner, admin).start()
        self._warming = asyncio.create_task(_load_laws())

    async def stop(self) -> None:
        """Flush what is on its way out, save what must survive, close the port."""
        if self._warming is not None:
            await self._warming
        self._drift.stop()
        await self._tracing.shutdown(_FLUSH_SECONDS)
        await self._metrics.shutdown(time.time(), _FLUSH_SECONDS)
        if self._runner is not None:
            await self._runner.cleanup()

    def consume(self, record: bytes) -> bool:
        """One record from a relay; False if it is of another version. Never raises: a telemetry fault is counted,
        and logged once per kind."""
        try:
            exchange = decode(record)
        except msgspec.MsgspecError:
            self._fault("exchange")
            return False
        self._report(exchange)
        return True

    def _report(self, exchange: Exchange) -> None:
        try:
            self._metrics.relayed(exchange)
            call = dialects.read(exchange)
        except Exception:  # noqa: BLE001  # whatever it is, the next call is not to be lost
            self._fault("exchange")
            return
        if call is None:
            self.untraced += 1
            return
        for name, observe in self.observers:
            try:
                observe(call)
            except Exception:  # noqa: BLE001
                self._fault(name)

    def _fault(self, name: str) -> None:
        self.faults[name] += 1
        if self.faults[name] == 1:
            _log.exception("%s failed; further failures of its kind are only counted", name)

    def tick(self, now: float) -> None:
        """Once a second. Never raises: a clock that a fault has stopped is noticed too late."""
        for name, tick in (("drift", self._judge), ("metrics", self._metrics.tick)):
            try:
                tick(now)
            except Exception:  # noqa: BLE001
                self._fault(name)

    def _judge(self, now: float) -> None:
        for event in self._drift.tick(now):
            self._recent.keep(event.incident.trace_ids)

    # View

    def exposition(self, accept: str) -> tuple[bytes, str]:
        return self._metrics.exposition(accept)

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "processes": self.processes,
            "requests": self._requests(),
            "spans": self._spans(),
            "calls_in_memory": len(self._recent),
            "not_model_calls": self.untraced,
            "observer_faults": dict(self.faults),
        }

    def _requests(self) -> dict[str, Any]:
        """The books of the relays: once nothing is active, started = observed + what was dropped."""
        totals = self._intake.block.totals()
        return {
            "started": totals.started,
            "active": totals.active,
            "observed": totals.observed,
            "dropped": {reason: count for reason, count in totals.dropped.items() if count},
            "outcomes": {outcome: count for outcome, count in totals.requests.items() if count},
        }

    def _spans(self) -> dict[str, Any]:
        """Their books, over all backends: once none is on its way, made = exported + what was dropped."""
        tracing = self._tracing
        return {"made": tracing.made, "exported": tracing.exported, "dropped": dict(tracing.dropped)}

    def ready(self) -> bool:
        return self._intake.block.totals().ready

    def traces(self, limit: int, wanted: dict[str, str]) -> list[dict[str, Any]]:
        if unknown := set(wanted) - set(_KEYS):
            raise ValueError(
                f"cannot filter by {', '.join(sorted(unknown))}; by {', '.join(_KEYS)} and limit"
            )
        return self._recent.newest(limit, **wanted)

    def trace(self, trace_id: bytes) -> list[dict[str, Any]]:
        return self._recent.of_trace(trace_id)

    def drift(self) -> dict[str, Any]:
        detector = self._drift.detector
        return {"series": self._drift.series(), "clock": detector.clock, "slot_ends_at": detector.slot_end}

    def incidents(self) -> list[Any]:
        return self._drift.detector.incidents()

    def baselines(self) -> list[Any]:
        return self._drift.detector.baselines()

    def export_baseline(self, model: str, variant: str) -> bytes:
        return self._drift.detector.export(model, variant)

    def import_baseline(self, model: str, variant: str, document: bytes) -> None:
        self._drift.detector.import_(document, model, variant)

    def change_baseline(self, model: str, variant: str, action: str) -> None:
        if action == "pin":
            self._drift.detector.pin(model, variant)
        else:
            self._drift.detector.unpin(model, variant)


async def _load_laws() -> None:
    """Before the first window is judged, so that no call waits for it then."""
    try:
        await asyncio.to_thread(special)
    except (ImportError, OSError) as error:
        _log.warning("scipy cannot be loaded: %s; it is tried again when a window is judged", error)
