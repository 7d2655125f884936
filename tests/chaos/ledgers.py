"""A run in which everything held, small enough to read."""

from __future__ import annotations

import msgspec

from chaos.ledger import Books, Done, Ledger, Request, Step, Traffic

SECOND = 10**9
RELAY = Done(Step(5, "kill", "relay 0"), 5 * SECOND, 100, ports=frozenset({40_000, 40_001}))
OBSERVER = Done(Step(7, "kill", "observer"), 7 * SECOND, 200)
UPSTREAM = Done(Step(10, "kill", "upstream"), 10 * SECOND, 300, incarnation=1)
UP_AGAIN = Done(Step(11, "start", "upstream"), 11 * SECOND, 301, incarnation=2)

LEFT = Request(1, "plain", "left", 40_009, 0, 1 * SECOND, 2 * SECOND, status=200)
LEFT_UNANSWERED = Request(7, "plain", "left", 40_008, 1, 5 * SECOND - 5, 5 * SECOND - 1)
IN_THE_RELAY = Request(
    2, "stream", "broken", 40_000, 1, 4 * SECOND, 5 * SECOND + 1, status=200, incarnation=1
)
UNREAD = Request(3, "upload", "broken", 40_001, 1, 4 * SECOND, 5 * SECOND + 1)
IN_THE_UPSTREAM = Request(
    4, "stream", "broken", 40_002, 1, 9 * SECOND, 10 * SECOND + 1, status=200, incarnation=1
)
BEFORE_IT_ANSWERED = Request(
    5, "plain", "refused", 40_003, 1, 9 * SECOND, 10 * SECOND + 1, 502, detail='{"code":"upstream_failed"}'
)
WHILE_IT_WAS_DOWN = Request(
    6,
    "plain",
    "refused",
    40_004,
    1,
    10 * SECOND + 5,
    10 * SECOND + 9,
    502,
    detail='{"code":"upstream_unreachable"}',
)


def ledger(*others: Request, **books: int) -> Ledger:
    """The run, with `others` added to what did not complete and `books` put in place of what they should be."""
    held = Books(
        started=105,
        active=0,
        observed=102,
        dropped={"relay_lost": 1, "observer_lost": 2},
        outcomes={"complete": 100},
        requests_total=105,
        dropped_total={"relay_lost": 1, "observer_lost": 2},
        restarts={"relay": 1, "observer": 1, "supervisor": 0},
        spans_made=103,
        spans_exported=90,
        spans_dropped={"observer_lost": 13},
    )
    explained = [LEFT, IN_THE_RELAY, UNREAD, IN_THE_UPSTREAM, BEFORE_IT_ANSWERED, WHILE_IT_WAS_DOWN]
    received = books.pop("spans_received", 95)
    return Ledger(
        seed=7,
        seconds=20,
        steps=[RELAY, OBSERVER, UPSTREAM, UP_AGAIN],
        traffic=Traffic(
            asked={"stream": 42, "plain": 63, "upload": 1},
            complete={"stream": 40, "plain": 60},
            others=[*explained, *others],
            connections=50,
        ),
        books=msgspec.structs.replace(held, **books),
        spans_received=received,
        faults=[],
    )
