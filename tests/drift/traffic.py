"""Seeded traffic, and a detector that is driven by its timestamps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from driftline.drift.detector import Detector
from driftline.drift.incident import Event
from driftline.drift.observation import Observation, Value
from driftline.drift.settings import DriftSettings

START = 1_700_000_000.0

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_azure = pytest.mark.skipif(
    not (DATA / "azure-llm").is_dir(), reason="the public Azure trace is not on this machine"
)


def quick(**changes) -> DriftSettings:
    """Slots of a second: learned in 20 s."""
    settings = {
        "slot": "1s",
        "scales": ("1s", "5s"),
        "learn": "20s",
        "minimum": 50,
        "features": ("input_tokens", "finish_reason", "refusal"),
    }
    return DriftSettings(**{**settings, **changes})


class Traffic:
    """Log-normal prompts, mostly `stop`, now and then a refusal."""

    def __init__(self, seed: int, rate: float = 100.0, sigma: float = 0.8) -> None:
        self.rng = np.random.default_rng(seed)
        self.rate = rate
        self.sigma = sigma
        self.sent = 0

    def calls(
        self,
        start: float,
        seconds: float,
        *,
        longer: float = 1.0,
        refusals: float = 0.02,
        finish: str = "stop",
        tenants: tuple[str, ...] = ("",),
        model: str = "llama",
        values: dict[str, Value] | None = None,
    ) -> Iterator[Observation]:
        """Exactly `rate` calls a second, evenly spread; `values` replace what is drawn."""
        for i in range(int(seconds * self.rate)):
            self.sent += 1
            drawn: dict[str, Value] = {
                "input_tokens": int(self.rng.lognormal(5.5, self.sigma) * longer) + 1,
                "finish_reason": finish if self.rng.random() < 0.9 else "length",
                "refusal": bool(self.rng.random() < refusals),
            }
            yield Observation(
                timestamp=start + i / self.rate,
                model=model,
                variant="",
                tenant=tenants[self.sent % len(tenants)],
                trace_id=f"{self.sent:032x}",
                values={**drawn, **(values or {})},
            )


def drive(detector: Detector, calls: Iterable[Observation]) -> list[Event]:
    """What the detector says while `calls` come in, to the end of the slot of the last one."""
    events = []
    for call in calls:
        events += detector.tick(call.timestamp)
        detector.observe(call)
    return events + detector.tick(detector.slot_end)


def opened(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Feature and time, in seconds since `START`, of each incident that opened."""
    return [(e.incident.feature, e.incident.opened_at - START) for e in events if e.kind == "opened"]
