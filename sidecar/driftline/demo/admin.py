"""Reads the sidecar's admin API, as any script could."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from driftline.demo.picture import Feature, Incident, Picture, Totals

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class _Drift(msgspec.Struct):
    series: list[Feature] = []
    """Shortest scale first."""


class _Incidents(msgspec.Struct):
    incidents: list[Incident] = []


class Admin:
    def __init__(self, url: str, model: str) -> None:
        self._model = model
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
        features: dict[str, Feature] = {}
        for feature in drift.series:
            if feature.model == self._model:
                features.setdefault(feature.name, feature)
        self._last = Picture(features=[*features.values()], incidents=oldest_first, totals=totals)
        return self._last

    async def _get(self, path: str) -> bytes:
        async with self._session.get(path, raise_for_status=True) as response:
            return await response.read()


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
