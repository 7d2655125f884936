"""Why a window alarmed: which groups moved, who moved them, which calls to look at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from driftline.drift.bins import FIRST
from driftline.drift.features import Feature
from driftline.drift.incident import Explanation, Share, Term
from driftline.drift.reference import Binning
from driftline.drift.statistics import psi_terms
from driftline.drift.tally import TRACES, Counts
from driftline.drift.verdict import Verdict

TENANTS = 3


def explain(
    verdict: Verdict,
    binning: Binning,
    cells: Counts,
    *,
    names: list[str],
    traces: list[list[str]],
    tenants: Mapping[str, Counts],
) -> Explanation:
    """Of the window whose counts by cell are `cells`.

    `names` are the categories of the cells, `traces` the trace ids of each, `tenants` the counts by group of each
    tenant in the window's last slots.
    """
    reference = binning.group_counts
    window = binning.grouped(binning.bins(cells, names))
    p, q = reference / reference.sum(), window / window.sum()
    parts = psi_terms(reference, window)
    order = [int(i) for i in np.argsort(-parts, kind="stable") if parts[i] > 0]
    terms = [Term(binning.group_labels[i], float(parts[i]), float(p[i]), float(q[i])) for i in order]
    grown = [i for i in order if q[i] > p[i]]
    shares = _shares(binning, grown, tenants)
    of_cell = binning.groups[binning.bins_of_cells(len(cells), names)]
    trace_ids = _trace_ids(grown, of_cell, cells, traces)
    several = len({*tenants, *binning.reference.tenants}) > 1
    sentence = _sentence(
        verdict, binning, terms, _new(binning, cells, names), shares[0] if shares and several else None
    )
    return Explanation(sentence, terms, shares, trace_ids)


def _shares(binning: Binning, grown: list[int], tenants: Mapping[str, Counts]) -> list[Share]:
    known = {tenant: np.array(counts) for tenant, counts in binning.reference.tenants.items()}
    calls = sum(int(counts.sum()) for counts in tenants.values())
    learned = sum(int(counts.sum()) for counts in known.values())
    growth = {}
    for tenant in {*tenants, *known}:
        now = tenants[tenant][grown].sum() / calls if tenant in tenants else 0.0
        before = known[tenant][grown].sum() / learned if tenant in known else 0.0
        growth[tenant] = float(now - before)
    total = sum(growth.values())
    if total <= 0:
        return []
    largest = sorted(growth.items(), key=lambda item: (-item[1], item[0]))[:TENANTS]
    return [Share(tenant, part / total) for tenant, part in largest if part > 0]


def _trace_ids(grown: list[int], of_cell: Counts, cells: Counts, traces: list[list[str]]) -> list[str]:
    """From the group that grew most first, and in it from the fullest cell."""
    found: dict[str, None] = {}
    for group in grown:
        inside = [int(i) for i in np.flatnonzero((of_cell == group) & (cells > 0))]
        for cell in sorted(inside, key=lambda i: -int(cells[i])):
            found.update(dict.fromkeys(traces[cell]))
    return list(found)[:TRACES]


def _new(binning: Binning, cells: Counts, names: list[str]) -> list[str]:
    """Categories that the reference has not, most frequent first."""
    counts = {
        name: int(cells[FIRST + i])
        for i, name in enumerate(names)
        if cells[FIRST + i] and name not in binning.reference.categories
    }
    return sorted(counts, key=lambda name: -counts[name])


_STATISTICS = {"psi": "PSI", "ks": "KS", "chi2": "chi-squared"}


def _sentence(
    verdict: Verdict, binning: Binning, terms: list[Term], new: list[str], foremost: Share | None
) -> str:
    who = f"{verdict.model} ({verdict.variant})" if verdict.variant else verdict.model
    moves = [
        f"{_spoken(term.group, binning.feature, new)} went from {term.reference_share:.1%} to {term.window_share:.1%}"
        for term in _foremost(terms)
    ]
    parts = [
        f"{binning.feature.name} of {who} moved over {verdict.scale} ({verdict.samples:,} calls)",
        *([" and ".join(moves)] if moves else []),
        *_evidence(verdict),
    ]
    if foremost is not None:
        tenant = f"tenant {foremost.tenant}" if foremost.tenant else "calls without a tenant"
        parts.append(f"{tenant} brought {foremost.share:.0%} of the growth")
    return f"{parts[0]}: {'; '.join(parts[1:])}."


def _evidence(verdict: Verdict) -> list[str]:
    """The distance that is least likely by chance, and the sequential test, which is evidence of its own."""
    alarms = verdict.alarms
    sequential = alarms.pop("cusum", None)
    said = []
    if alarms:
        name, test = min(alarms.items(), key=lambda item: (item[1].probability, -item[1].value))
        value, threshold = _figures(test.value, test.threshold)
        said.append(f"{_STATISTICS[name]} is {value} where {threshold} is allowed")
    if sequential is not None:
        value, threshold = _figures(sequential.value, sequential.threshold)
        said.append(f"the sequential test has log evidence {value} where {threshold} is enough")
    return said


def _foremost(terms: list[Term]) -> list[Term]:
    """The term that grew most and the one that shrank most, the larger first."""
    grew = [term for term in terms if term.window_share > term.reference_share]
    shrank = [term for term in terms if term.window_share < term.reference_share]
    return sorted([*grew[:1], *shrank[:1]], key=lambda term: -term.psi)


def _figures(value: float, threshold: float) -> tuple[str, str]:
    """Both to three digits, or as many as it takes to tell them apart.

    >>> _figures(0.27821, 0.27794), _figures(1234.4, 1233.9), _figures(12345.0, 12.0)
    (('0.2782', '0.2779'), ('1,234.4', '1,233.9'), ('12,345', '12'))
    """
    written = _figure(value, 3), _figure(threshold, 3)
    for digits in range(4, 18):
        if written[0] != written[1] or value == threshold:
            break
        written = _figure(value, digits), _figure(threshold, digits)
    return written


def _figure(value: float, digits: int) -> str:
    short = f"{value:.{digits}g}"
    return short if abs(float(short)) < 1000 else f"{value:,.{digits - 3}f}"


def _spoken(group: str, feature: Feature, new: list[str]) -> str:
    """A group's label in a sentence.

    >>> from driftline.drift.features import FEATURES
    >>> _spoken("(724, +inf)", FEATURES["input_tokens"], []), _spoken("other", FEATURES["finish_reason"], ["abort"])
    ('above 724 tokens', 'other (abort)')
    """
    if group == "other" and new:
        return f"other ({', '.join(new[:3])})"
    if feature.edges is None or not group.startswith("("):
        return group
    low, high = group.strip("(])").split(", ")
    if low == "-inf":
        bounds = f"up to {high}"
    elif high == "+inf":
        bounds = f"above {low}"
    else:
        bounds = f"above {low} up to {high}"
    return f"{bounds} {feature.unit}".strip()
