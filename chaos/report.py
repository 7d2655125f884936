"""A run in three tables: what became of requests, of their records and spans, and of processes."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from chaos import judge
from chaos.ledger import Ledger

Cells = dict[str, dict[str, int]]
"""Figures by row and column."""

_KINDS = {"streams": "stream", "plain": "plain", "embeddings": "embeddings", "uploads": "upload"}
_CAUSES = (judge.LEFT, judge.RELAY_KILLED, judge.UPSTREAM_KILLED, judge.REFUSED, judge.UNEXPLAINED)
_DONE = {
    "kill": "killed",
    "hang": "killed by the watchdog",
    "start": "started again",
    "pause": "paused",
    "dismiss": "dismissed",
    "reload": "reloaded",
    "roll": "rolled",
}
_ROLES = {"observer": "observer", "relays": "relay", "upstream": "upstream", "supervisor": "supervisor"}


def figures(ledger: Ledger) -> dict[str, Cells]:
    """The tables as data."""
    return {"requests": _requests(ledger), "records": _records(ledger), "processes": _processes(ledger)}


def tables(ledger: Ledger) -> Group:
    return Group(*(_table(name, cells) for name, cells in figures(ledger).items()))


def _table(name: str, cells: Cells) -> Table:
    columns = [*dict.fromkeys(column for row in cells.values() for column in row)]
    table = Table(name)
    for column in columns:
        table.add_column(column, justify="right")
    for row, figures in cells.items():
        table.add_row(row, *(f"{figures[column]:,}" if column in figures else "" for column in columns))
    return table


def _requests(ledger: Ledger) -> Cells:
    traffic, causes = ledger.traffic, judge.account(ledger).causes
    rows = {"started": traffic.asked, "ended whole, byte-exact": traffic.complete}
    rows |= {why: {kind: causes[kind, why] for kind in _KINDS.values()} for why in _CAUSES}
    return {
        row: {column: counts.get(kind, 0) for column, kind in _KINDS.items()} | {"all": sum(counts.values())}
        for row, counts in rows.items()
    }


def _records(ledger: Ledger) -> Cells:
    books = ledger.books
    least, most = judge.Started.known(ledger)
    cells: Cells = {
        "known to its clients, at least": {"exchanges": least},
        "known to its clients, at most": {"exchanges": most},
        "sent": {"exchanges": books.started, "spans": books.spans_made},
        "received": {"exchanges": books.observed, "spans": ledger.spans_received},
        "received and confirmed": {"spans": books.spans_exported},
    }
    for column, dropped in {"exchanges": books.dropped, "spans": books.spans_dropped}.items():
        for reason, count in sorted(dropped.items()):
            cells.setdefault(f"dropped: {reason}", {})[column] = count
    return cells


def _processes(ledger: Ledger) -> Cells:
    cells = {name: dict.fromkeys(_ROLES, 0) for name in _DONE.values()}
    for done in ledger.steps:
        for column, role in _ROLES.items():
            if done.step.to.startswith(role) and done.step.do in _DONE and not done.skipped:
                cells[_DONE[done.step.do]][column] += 1
    again = cells["started again"]
    again |= {
        column: ledger.books.restarts.get(role, 0) for column, role in _ROLES.items() if column != "upstream"
    }
    return cells
