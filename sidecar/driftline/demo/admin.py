"""Reads the sidecar's admin API, as any script could."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from driftline.demo.picture import Feature, Incident, Picture, Totals

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class _Test(msgspec.Struct):
    threshold: float


class _Verdict(msgspec.Struct, kw_only=True):
    feature: str
    scale: str
    state: str
    reason: str = ""
    progress: float = 1.0
    samples: int = 0
    window_end: float
    psi: float | None = None
    ks: float | None = None
    tests: dict[str, _Test] = {}


class _Drift(msgspec.Struct):
    series: list[_Verdict] = []


class _Incidents(msgspec.Struct):
    incidents: list[Incident] = []


class Admin:
    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10))
        self._last = Picture()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def picture(self) -> Picture:
        """How it stands; where the observer is just being started again, how it stood before."""
        try:
            drift = msgspec.json.decode(await self._get("/api/v1/drift"), type=_Drift)
            incidents = msgspec.json.decode(await self._get("/api/v1/incidents"), type=_Incidents)
            totals = _totals((await self._get("/metrics")).decode())
        except (aiohttp.ClientError, TimeoutError):
            return self._last
        oldest_first = sorted(incidents.incidents, key=lambda incident: incident.opened_at)
        self._last = Picture(features=_features(drift.series), incidents=oldest_first, totals=totals)
        return self._last

    async def _get(self, path: str) -> bytes:
        async with self._session.get(path, raise_for_status=True) as response:
            return await response.read()


def _features(verdicts: list[_Verdict]) -> list[Feature]:
    """The first verdict of each feature is that of its shortest scale."""
    found: dict[str, Feature] = {}
    for verdict in verdicts:
        allowed = {name: test.threshold for name, test in verdict.tests.items()}
        feature = Feature(
            name=verdict.feature,
            state=verdict.state,
            reason=verdict.reason,
            progress=verdict.progress,
            samples=verdict.samples,
            window_end=verdict.window_end,
            psi=verdict.psi,
            psi_allowed=allowed.get("psi"),
            ks=verdict.ks,
            ks_allowed=allowed.get("ks"),
        )
        found.setdefault(verdict.feature, feature)
    return list(found.values())


def _totals(exposition: str) -> Totals:
    lines = _LINE.findall(exposition)

    def total(metric: str, label: str = "") -> float:
        return sum(float(value) for name, labels, value in lines if name == metric and label in labels)

    return Totals(
        requests=int(total("driftline_relay_requests_total")),
        calls=int(total("gen_ai_client_operation_duration_seconds_count")),
        input_tokens=int(total("gen_ai_client_token_usage_sum", 'gen_ai_token_type="input"')),
        output_tokens=int(total("gen_ai_client_token_usage_sum", 'gen_ai_token_type="output"')),
        cost_usd=total("driftline_cost_usd_total"),
    )
