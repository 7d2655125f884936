"""The observer as a whole, in this process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driftline.config import Config
from driftline.observer.intake import Intake
from driftline.observer.service import Service
from driftline.relay.counters import Block
from tests.tracing.receivers import http_receiver, until


async def test_a_fault_does_not_stop_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails on a tick (no thread to be had, say) is counted and said once; everything else goes on."""
    async with http_receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10000")
        block, file = Block.create()
        config: dict[str, Any] = msgspec.to_builtins(Config(state_dir=str(tmp_path)))
        with file:
            service = Service(config, Intake(block))
            now = time.time()
            service._drift.stop()  # its thread is gone, and no other one is started
            for seconds in (0, 20, 40):
                service.tick(now + seconds)
            await until(lambda: bool(received.paths))
            assert service.faults == {"drift": 2}
            assert service.drift()["clock"] == now + 40
            await asyncio.wait_for(service._metrics.shutdown(now + 60, 5.0), 10.0)
    assert len([record for record in caplog.records if "drift failed" in record.getMessage()]) == 1
