import aiohttp
import pytest

from driftline.simulate.upstream import SimulatedUpstream


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


@pytest.fixture
def upstream():
    """Answers without waiting."""
    return SimulatedUpstream(time_scale=0)


@pytest.fixture
async def url(upstream):
    async with upstream.serving() as url:
        yield url
