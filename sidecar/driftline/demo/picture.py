"""What the sidecar's admin API says, at one moment. The demo knows nothing else of what goes on."""

from __future__ import annotations

import msgspec


class Statistic(msgspec.Struct):
    value: float
    threshold: float


class Feature(msgspec.Struct, kw_only=True, rename={"name": "feature"}):
    """One feature at the shortest scale."""

    name: str
    model: str
    state: str
    reason: str = ""
    progress: float = 1.0
    """Of learning."""
    samples: int = 0
    """Calls in the window."""
    window_end: float = 0.0
    psi: float | None = None
    """Also where the window is too small to be judged by it."""
    tests: dict[str, Statistic] = {}
    """By name, as the API has it: `psi`, `ks`, `chi2`, `cusum`."""


class Incident(msgspec.Struct, kw_only=True):
    id: str
    feature: str
    severity: str
    opened_at: float
    closed_at: float | None = None
    closed_because: str = ""
    explanation: str = ""
    trace_ids: list[str] = []
    calibrated: bool = True


class Totals(msgspec.Struct, kw_only=True):
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    calls: int = 0
    """Requests that became spans."""


class Picture(msgspec.Struct, kw_only=True):
    features: list[Feature] = []
    incidents: list[Incident] = []
    """Oldest first."""
    totals: Totals = msgspec.field(default_factory=Totals)

    @property
    def open(self) -> list[Incident]:
        return [incident for incident in self.incidents if incident.closed_at is None]

    @property
    def progress(self) -> float:
        """Of the feature that has learned least; 0 before there is any."""
        return min((feature.progress for feature in self.features), default=0.0)

    def feature(self, name: str) -> Feature | None:
        return next((feature for feature in self.features if feature.name == name), None)
