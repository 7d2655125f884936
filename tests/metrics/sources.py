"""Where metrics come from, in tests."""

from __future__ import annotations

from collections import Counter

from driftline.drift.incident import Incident
from driftline.drift.series import FeatureState
from driftline.drift.verdict import State, Test, Verdict
from driftline.metrics import Metrics
from driftline.metrics.drift import BinTotal
from driftline.relay.counters import Totals
from driftline.tracing.resource import resource
from tests.tracing.calls import chat


def verdict(scale: str = "5m", state: State = State.STABLE) -> Verdict:
    return Verdict(
        model="llama",
        variant="canary",
        feature="input_tokens",
        scale=scale,
        state=state,
        window_end=1_752_384_000.0,
        samples=300,
        reference_samples=9000,
        reference="abc123",
        psi=0.031,
        ks=0.07,
        ks_high=0.09,
        tests={"psi": Test(0.031, 0.12, 0.4), "ks": Test(0.07, 0.11, 0.3)},
        calibrated=True,
        groups=["missing", "(-inf, 128]", "(128, +inf)"],
        window_groups=[0, 100, 200],
        reference_groups=[0, 4000, 5000],
        edges=[64.0, 128.0],
        window_le=[40, 100, 300],
        reference_le=[1000, 4000, 9000],
    )


def incident(severity: str = "page", closed_at: float | None = None) -> Incident:
    return Incident(
        id="1",
        model="llama",
        variant="canary",
        feature="input_tokens",
        severity=severity,  # type: ignore[arg-type]
        opened_at=1.0,
        closed_at=closed_at,
        scale="5m",
        test="psi",
        value=1.0,
        threshold=0.1,
        probability=1e-9,
        psi=1.0,
        ks=0.5,
        samples=300,
        reference_samples=9000,
        reference="abc123",
        dispersion=1.0,
        calibrated=True,
        scales=["5m"],
        explanation="Longer.",
        terms=[],
        tenants=[],
        trace_ids=[],
    )


class Detector:
    def __init__(self) -> None:
        self.found: list[Verdict] = [verdict("5m"), verdict("1h")]
        self.opened: list[Incident] = []
        self.state = State.STABLE

    def verdicts(self) -> list[Verdict]:
        return self.found

    def states(self) -> list[FeatureState]:
        return [FeatureState(model="llama", variant="canary", feature="input_tokens", state=self.state)]

    def incidents(self) -> list[Incident]:
        return self.opened

    def bin_totals(self) -> list[BinTotal]:
        return [BinTotal("input_tokens", "llama", "canary", "(64, 128]", 60)]


class Out:
    def __init__(self) -> None:
        self.dropped = Counter({"queue_full": 3})
        self.batches = Counter({"success": 7, "failure": 1})


STARTED = 1_752_384_000.0
TOTALS = Totals(
    active=4,
    started=14,
    observed=9,
    requests={"complete": 8, "timeout": 2},
    dropped={"channel_full": 1},
    ready=True,
)


def empty(environ: dict[str, str] | None = None, **options: object) -> Metrics:
    """With one of everything that feeds it, and no call yet."""
    arguments: dict[str, object] = {
        "relay": lambda: TOTALS,
        "exports": {"traces": Out()},
        "faults": Counter({"drift": 2}),
        "drift": Detector(),
        "resource": resource(environ or {}),
        "environ": environ or {},
        "started": STARTED,
    }
    return Metrics(**arguments | options)  # type: ignore[arg-type]


def measured(environ: dict[str, str] | None = None, **options: object) -> Metrics:
    """And with one call of which everything is known."""
    metrics = empty(environ, **options)
    metrics.observe(chat())
    metrics.relayed(chat().exchange)
    return metrics
