"""The demo's sidecar is the real one."""

import os
import signal

import aiohttp
import msgspec
import pytest

from driftline.config import Config
from driftline.demo.run import configuration
from driftline.demo.sidecar import Sidecar, SidecarError
from driftline.drift.settings import Span
from driftline.listeners import Address, listen, spelled


def config(folder, data="127.0.0.1:0", admin="127.0.0.1:0"):
    return configuration(data=data, admin=admin, upstream="http://127.0.0.1:9", rate=80, folder=folder)


async def test_it_is_ended_with_its_context(tmp_path):
    """Supervisor, relay and observer: nothing of its process group is left."""
    async with Sidecar(config(tmp_path), tmp_path) as sidecar:
        async with aiohttp.ClientSession() as session, session.get(f"{sidecar.admin}/healthz") as response:
            processes = (await response.json())["processes"]
        group = os.getpgid(processes[0]["pid"])
        assert {process["role"] for process in processes} == {"supervisor", "relay", "observer"}
        assert {os.getpgid(process["pid"]) for process in processes} == {group} != {os.getpgid(0)}
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


async def test_one_that_does_not_start_shows_its_log(tmp_path):
    """A port that was taken in the meantime, say."""
    with listen(Address("127.0.0.1:0")) as taken:
        address = spelled(taken)
        with pytest.raises(SidecarError) as error:
            async with Sidecar(config(tmp_path, data=address), tmp_path):
                pass
    assert str(error.value).startswith("The sidecar did not start. Its log:")
    assert f"{address} is in use by another process" in str(error.value)


async def test_one_that_ends_by_itself_is_noticed(tmp_path):
    """With its exit status and its log, at once."""
    async with Sidecar(config(tmp_path), tmp_path) as sidecar:
        async with aiohttp.ClientSession() as session, session.get(f"{sidecar.admin}/healthz") as response:
            pid = (await response.json())["processes"][0]["pid"]
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(SidecarError) as error:
            await sidecar.ended()
    assert "The sidecar ended with exit status 0." in str(error.value)
    assert "supervisor: stopped" in str(error.value)


@pytest.mark.parametrize("rate", [40, 80, 120, 160, 333, 400])
def test_its_configuration_holds_at_any_rate(tmp_path, rate):
    """Spans stay multiples of the slot, and a slot holds as many calls."""
    settings = msgspec.convert(
        configuration(
            data="127.0.0.1:0", admin="127.0.0.1:0", upstream="http://u", rate=rate, folder=tmp_path
        ),
        Config,
        strict=False,
    ).drift
    assert Span.parse(settings.slot).amount * rate == pytest.approx(80, rel=0.01)
    assert [settings.in_slots(scale) for scale in settings.scales] == [6]
    assert settings.in_slots(settings.learn) == 24
