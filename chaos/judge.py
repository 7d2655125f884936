"""Whether the promises held. Pure: a ledger in, what is wrong with it out."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from chaos.ledger import Done, Ledger, Request
from chaos.schedule import OBSERVER, RELAYS, UPSTREAM

LEFT, RELAY_KILLED, UPSTREAM_KILLED, REFUSED = (
    "left by its client",
    "relay killed",
    "upstream killed",
    "refused while the upstream was down",
)
UNEXPLAINED = "unexplained"
NEVER = 2**63
_READS_WITHIN = 10**9
"""Nanoseconds in which a relay that runs has read what it was sent, its start included, on a busy machine."""


class Outage(NamedTuple):
    """One incarnation of the upstream is killed; moments as in the ledger."""

    incarnation: int
    begin: int
    end: int
    """The next one listens."""


class Account(NamedTuple):
    """Requests that did not complete, by cause, and those without one."""

    causes: Counter[tuple[str, str]]
    """By kind and cause."""
    unexplained: list[Request]


def account(ledger: Ledger) -> Account:
    """Attribute every request that did not complete to a kill, or to nothing."""
    relays = [done for done in kills(ledger.steps) if done.step.to in RELAYS]
    down = outages(ledger.steps)
    causes: Counter[tuple[str, str]] = Counter()
    unexplained = []
    for request in ledger.traffic.others:
        why = cause(request, relays, down)
        causes[request.kind, why] += 1
        if why == UNEXPLAINED:
            unexplained.append(request)
    return Account(causes, unexplained)


def cause(request: Request, relays: list[Done], down: list[Outage]) -> str:
    """What ended `request`: a relay that was killed while it had this connection, the upstream that was answering
    when it was killed, no upstream; or `UNEXPLAINED`."""
    if request.end == "left":
        return LEFT
    if request.end == "broken":
        if any(owned(request, done) for done in relays):
            return RELAY_KILLED
        if request.incarnation and any(
            outage.incarnation == request.incarnation and request.asked_at <= outage.begin <= request.ended_at
            for outage in down
        ):
            return UPSTREAM_KILLED
    # The relay says which, and can only say so of an upstream that is being killed or is not there.
    if request.end == "refused" and any(
        outage.begin <= request.ended_at and request.asked_at <= outage.end for outage in down
    ):
        if '"upstream_failed"' in request.detail:
            return UPSTREAM_KILLED
        if '"upstream_unreachable"' in request.detail:
            return REFUSED
    return UNEXPLAINED


def owned(request: Request, killed: Done) -> bool:
    """The relay had the request's connection when it was killed."""
    return request.port in killed.ports and request.opened_at <= killed.at <= request.ended_at


def kills(steps: list[Done]) -> list[Done]:
    """Those by the watchdog too: at the latest moment at which the process was seen to live."""
    return [done for done in steps if done.step.do in ("kill", "hang") and not done.skipped]


def outages(steps: list[Done]) -> list[Outage]:
    """Of the upstream, one after the other."""
    found = []
    for number, done in enumerate(steps):
        if done.step.to == UPSTREAM and done.step.do == "kill" and not done.skipped:
            up = (later.at for later in steps[number:] if later.step.do == "start" and not later.skipped)
            found.append(Outage(done.incarnation, done.at, next(up, NEVER)))
    return found


def problems(ledger: Ledger) -> list[str]:
    """Promises that did not hold, in words; empty when all did."""
    return [
        *_streams(ledger),
        *_books(ledger),
        *_known(ledger),
        *_spans(ledger),
        *(f"in the sidecar's log: {fault}" for fault in ledger.faults),
    ]


def _streams(ledger: Ledger) -> list[str]:
    return [
        f"unexplained: {request.kind} {request.number} {request.end} after "
        f"{(request.ended_at - request.asked_at) / 1e9:.3f} s, status {request.status}, port {request.port}, "
        f"upstream {request.incarnation}: {request.detail}"
        for request in account(ledger).unexplained
    ]


def _books(ledger: Ledger) -> list[str]:
    books = ledger.books
    found = []
    dropped = sum(books.dropped.values())
    if books.active:
        found.append(f"{books.active} requests are still in flight")
    if books.started != books.observed + dropped:
        found.append(f"started {books.started} is not observed {books.observed} + dropped {dropped}")
    if books.requests_total != books.started:
        found.append(f"requests_total {books.requests_total} is not started {books.started}")
    if books.dropped_total != books.dropped:
        found.append(f"/metrics has dropped {books.dropped_total}, /healthz {books.dropped}")
    return found


class Started(NamedTuple):
    """How many requests the sidecar must have started, as far as its clients can know."""

    least: int
    most: int

    @classmethod
    def known(cls, ledger: Ledger) -> Started:
        """A request is started once a relay has read its header. The client cannot know it of one that got no header
        of an answer, if the relay was killed while it waited, or so soon after it was left that it may have been
        unread still."""
        relays = [done for done in kills(ledger.steps) if done.step.to in RELAYS]
        asked = sum(ledger.traffic.asked.values())
        unknown = sum(
            not request.status
            and any(owned(request, done) or _hardly_read(request, done, ledger.steps) for done in relays)
            for request in ledger.traffic.others
        )
        return cls(asked - unknown, asked)


def _hardly_read(request: Request, killed: Done, steps: list[Done]) -> bool:
    """It was left, and a relay was killed before it had run for `_READS_WITHIN` since it was asked."""
    if request.end != "left":
        return False
    if killed.at < request.asked_at:
        return killed.step.do == "hang" and request.port in killed.ports and request.opened_at <= killed.at
    begin = max(request.asked_at, killed.born_at)
    paused, since = 0, NEVER
    for done in steps:
        if done.step.to == killed.step.to and done.at <= killed.at and not done.skipped:
            if done.step.do == "pause":
                since = min(since, done.at)
            else:
                paused += max(0, done.at - max(since, begin))
                since = NEVER
    return killed.at - begin - paused < _READS_WITHIN


def _known(ledger: Ledger) -> list[str]:
    least, most = Started.known(ledger)
    if least <= ledger.books.started <= most:
        return []
    return [f"started {ledger.books.started}; its clients know of {least} to {most}"]


def _spans(ledger: Ledger) -> list[str]:
    """Every observed call makes one span, just before it is counted: a kill may come in between."""
    books, received = ledger.books, ledger.spans_received
    dropped = sum(books.spans_dropped.values())
    between = sum(done.step.to == OBSERVER for done in kills(ledger.steps))
    found = []
    if books.spans_made != books.spans_exported + dropped:
        found.append(
            f"spans made {books.spans_made} are not exported {books.spans_exported} + dropped {dropped}"
        )
    if not books.observed <= books.spans_made <= books.observed + between:
        found.append(f"{books.spans_made} spans made of {books.observed} observed calls, {between} kills")
    if not books.spans_exported <= received <= books.spans_made:
        found.append(
            f"spans received {received}, exported {books.spans_exported}, made {books.spans_made}: "
            "the first must lie between"
        )
    return found
