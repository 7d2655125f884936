"""The sidecar's account of a run, read once nothing moves any more."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.peers.driftline import fetch
from chaos.ledger import Books

_SETTLED_SECONDS = 3.0
"""For which it must not move: a dead relay's row is closed after two looks, a second apart."""
_DEADLINE = 60.0


def settled(admin: str) -> Books:
    """The books when they have stood still for a while; as they are at the deadline where they do not."""
    deadline = time.monotonic() + _DEADLINE
    last: Books | None = None
    since = time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.25)
        books = None
        with contextlib.suppress(OSError):
            books = read(admin)
        if books is None or books != last or _under_way(books):
            last, since = books, time.monotonic()
        elif time.monotonic() - since > _SETTLED_SECONDS:
            break
    return last if last is not None else read(admin)


def _under_way(books: Books) -> bool:
    exchanges = books.started - books.observed - sum(books.dropped.values())
    spans = books.spans_made - books.spans_exported - sum(books.spans_dropped.values())
    return bool(books.active or exchanges > 0 or spans > 0)


def read(admin: str) -> Books:
    """Raises `OSError` while the observer is away."""
    health: dict[str, Any] = fetch(f"{admin}/healthz")
    requests, spans = health["requests"], health["spans"]
    totals, dropped = _metrics(fetch(f"{admin}/metrics").decode())
    restarts: Counter[str] = Counter()
    for process in health["processes"]:
        restarts[process["role"]] += process["restarts"]
    return Books(
        started=requests["started"],
        active=requests["active"],
        observed=requests["observed"],
        dropped=requests["dropped"],
        outcomes=requests["outcomes"],
        requests_total=totals,
        dropped_total=dropped,
        restarts=dict(restarts),
        spans_made=spans["made"],
        spans_exported=spans["exported"],
        spans_dropped=spans["dropped"],
    )


def _metrics(exposition: str) -> tuple[int, dict[str, int]]:
    """Requests over all outcomes, and dropped records by reason."""
    samples = [s for family in text_string_to_metric_families(exposition) for s in family.samples]
    total = sum(int(s.value) for s in samples if s.name == "driftline_relay_requests_total")
    dropped = {
        s.labels["reason"]: int(s.value)
        for s in samples
        if s.name == "driftline_telemetry_dropped_total" and s.labels["signal"] == "exchanges" and s.value
    }
    return total, dropped


def faults(log: Path) -> list[str]:
    """What the sidecar's log holds that no kill accounts for: exceptions, and lines that are no log."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            found.append(line)
            continue
        if "exception" in said:
            found.append(f"{said['role']}: {said['event']}: {said['exception'].splitlines()[-1]}")
    return found
