"""The judge of a chaos run finds what it is there to find."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from chaos import judge, report
from chaos.__main__ import Document, main
from chaos.ledger import Done, Ledger, Step
from tests.chaos import ledgers
from tests.chaos.ledgers import SECOND, ledger


def replaced(request, **fields):
    return msgspec.structs.replace(request, **fields)


def test_every_request_is_put_down_to_what_ended_it():
    causes, unexplained = judge.account(ledger())
    assert causes == {
        ("plain", judge.LEFT): 1,
        ("stream", judge.RELAY_KILLED): 1,
        ("upload", judge.RELAY_KILLED): 1,
        ("stream", judge.UPSTREAM_KILLED): 1,
        ("plain", judge.UPSTREAM_KILLED): 1,
        ("plain", judge.REFUSED): 1,
    }
    assert unexplained == []
    assert judge.problems(ledger()) == []


def test_what_hung_was_killed_by_the_watchdog():
    """Its requests break when the watchdog acts, some seconds later; one that was left meanwhile was never read."""
    hung = replaced(ledgers.RELAY, step=Step(5, "hang", "relay 0"))
    doctored = ledger(
        replaced(ledgers.IN_THE_RELAY, asked_at=7 * SECOND, ended_at=11 * SECOND),
        replaced(ledgers.LEFT_UNANSWERED, port=40_000, asked_at=7 * SECOND, ended_at=8 * SECOND),
    )
    doctored.steps[0] = hung
    assert judge.account(doctored).unexplained == []
    assert judge.Started.known(doctored).least == judge.Started.known(ledger()).least - 1


NOT_ITS_DOING = {
    "on a connection of the other relay": replaced(ledgers.IN_THE_RELAY, port=50_000, incarnation=0),
    "on a later connection of the same port": replaced(
        ledgers.IN_THE_RELAY, opened_at=6 * SECOND, asked_at=6 * SECOND, ended_at=8 * SECOND
    ),
    "before the relay was killed": replaced(ledgers.IN_THE_RELAY, ended_at=5 * SECOND - 1),
    "served by an upstream that nobody killed": replaced(ledgers.IN_THE_UPSTREAM, incarnation=2),
    "before the upstream was killed": replaced(ledgers.IN_THE_UPSTREAM, ended_at=10 * SECOND - 1),
    "after the upstream was killed": replaced(ledgers.IN_THE_UPSTREAM, asked_at=10 * SECOND + 1),
    "refused before the upstream was killed": replaced(ledgers.BEFORE_IT_ANSWERED, ended_at=10 * SECOND - 1),
    "refused once the upstream was back": replaced(
        ledgers.WHILE_IT_WAS_DOWN, asked_at=11 * SECOND + 1, ended_at=12 * SECOND
    ),
    "refused for another reason": replaced(ledgers.WHILE_IT_WAS_DOWN, detail='{"code":"internal_error"}'),
    "altered": replaced(ledgers.IN_THE_RELAY, end="altered"),
    "hung": replaced(ledgers.IN_THE_RELAY, end="hung"),
    "not let in": replaced(ledgers.IN_THE_RELAY, end="no connection"),
}


@pytest.mark.parametrize("request_", NOT_ITS_DOING.values(), ids=NOT_ITS_DOING)
def test_a_request_that_broke_without_a_kill_is_unexplained(request_):
    """That something was killed at about that time is no excuse: it has to be what had the request in hand."""
    doctored = ledger(request_)
    assert judge.account(doctored).unexplained == [request_]
    assert any(problem.startswith("unexplained: ") for problem in judge.problems(doctored))


BOOKS = {
    "a record is missing": ({"observed": 101}, "started 105 is not observed 101 + dropped 3"),
    "a record is counted twice": ({"observed": 103}, "started 105 is not observed 103 + dropped 3"),
    "a request has no outcome": ({"requests_total": 104}, "requests_total 104 is not started 105"),
    "the metrics differ": ({"dropped_total": {}}, "/metrics has dropped {}, /healthz {"),
    "a request never ends": ({"active": 1}, "1 requests are still in flight"),
    "a span is missing": ({"spans_exported": 89}, "spans made 103 are not exported 89 + dropped 13"),
    "a call made no span": ({"observed": 104}, "103 spans made of 104 observed calls"),
    "a confirmed span did not arrive": ({"spans_received": 89}, "spans received 89, exported 90, made 103"),
    "a span arrived twice": ({"spans_received": 104}, "spans received 104, exported 90, made 103"),
    "a request was never started": (
        {"started": 104, "requests_total": 104, "observed": 101},
        "started 104; its clients know of 105 to 106",
    ),
    "a request was started twice": (
        {"started": 107, "requests_total": 107, "observed": 104},
        "started 107; its clients know of 105 to 106",
    ),
}


@pytest.mark.parametrize(("books", "said"), BOOKS.values(), ids=BOOKS)
def test_books_that_are_off_by_one_do_not_pass(books, said):
    assert any(said in problem for problem in judge.problems(ledger(**books)))


HARDLY_READ = {
    "left just before the kill": (ledgers.LEFT_UNANSWERED, [], 1),
    "answered": (replaced(ledgers.LEFT_UNANSWERED, status=200), [], 0),
    "left long before": (replaced(ledgers.LEFT_UNANSWERED, asked_at=3 * SECOND), [], 0),
    "asked after": (replaced(ledgers.LEFT_UNANSWERED, asked_at=5 * SECOND + 1), [], 0),
    "left long before, but the relay was paused": (
        replaced(ledgers.LEFT_UNANSWERED, asked_at=3 * SECOND),
        [Done(Step(2, "pause", "relay 0"), 2 * SECOND), Done(Step(4, "resume", "relay 0"), 4 * SECOND + 1)],
        1,
    ),
    "left long before, but the relay was paused until it was killed": (
        replaced(ledgers.LEFT_UNANSWERED, asked_at=3 * SECOND),
        [Done(Step(2, "pause", "relay 0"), 2 * SECOND)],
        1,
    ),
    "left long before, but the relay was paused earlier": (
        replaced(ledgers.LEFT_UNANSWERED, asked_at=3 * SECOND),
        [Done(Step(1, "pause", "relay 0"), 1 * SECOND), Done(Step(2, "resume", "relay 0"), 2 * SECOND)],
        0,
    ),
    "left long before, but the other relay was paused": (
        replaced(ledgers.LEFT_UNANSWERED, asked_at=3 * SECOND),
        [Done(Step(2, "pause", "relay 1"), 2 * SECOND)],
        0,
    ),
}


@pytest.mark.parametrize(("request_", "pauses", "unknown"), HARDLY_READ.values(), ids=HARDLY_READ)
def test_what_its_client_cannot_know_is_not_held_against_the_books(request_, pauses, unknown):
    """A relay that ran for a second has read what it was sent; one that did not may have been killed before."""
    doctored = ledger()
    before = judge.Started.known(doctored)
    doctored.traffic.others.append(request_)
    doctored.traffic.asked["plain"] += 1
    doctored.steps[:0] = pauses
    after = judge.Started.known(doctored)
    assert (after.least - before.least, after.most - before.most) == (1 - unknown, 1)


def test_an_exception_in_the_log_does_not_pass():
    doctored = msgspec.structs.replace(ledger(), faults=["relay: background work failed: KeyError: 1"])
    assert judge.problems(doctored) == ["in the sidecar's log: relay: background work failed: KeyError: 1"]


@pytest.mark.parametrize(
    ("doctored", "status", "said"),
    [
        (ledger(), 0, "the books balance"),
        (ledger(NOT_ITS_DOING["altered"]), 1, "unexplained: stream 2 altered"),
        (ledger(observed=101), 1, "started 105 is not observed 101 + dropped 3"),
    ],
    ids=["honest", "a broken stream", "off by one"],
)
def test_the_exit_status_is_the_verdict(doctored: Ledger, status, said, tmp_path):
    """`--again` judges a run that was kept; what its file says of itself is not believed."""
    file = tmp_path / "run.json"
    file.write_bytes(msgspec.json.encode(Document([], {}, doctored)))
    shown = CliRunner().invoke(main, ["--again", str(file)])
    assert (shown.exit_code, said in shown.stdout) == (status, True)


def test_the_tables_hold_what_was_counted():
    figures = report.figures(ledger())
    assert figures["requests"]["started"] == {
        "streams": 42,
        "plain": 63,
        "embeddings": 0,
        "uploads": 1,
        "all": 106,
    }
    assert figures["requests"][judge.RELAY_KILLED]["all"] == 2
    assert figures["records"] == {
        "known to its clients, at least": {"exchanges": 105},
        "known to its clients, at most": {"exchanges": 106},
        "sent": {"exchanges": 105, "spans": 103},
        "received": {"exchanges": 102, "spans": 95},
        "received and confirmed": {"spans": 90},
        "dropped: observer_lost": {"exchanges": 2, "spans": 13},
        "dropped: relay_lost": {"exchanges": 1},
    }
    assert figures["processes"]["killed"] == {"observer": 1, "relays": 1, "upstream": 1, "supervisor": 0}
