"""The admin port: who may see what, and how errors read."""

from __future__ import annotations

import base64

import aiohttp
import pytest
from aiohttp import web

from driftline.config import AdminSettings
from driftline.console.app import application

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Shown:
    """A view with one of everything."""

    def exposition(self, accept):
        return b"driftline_x 1\n", "text/plain; version=0.0.4"

    def health(self):
        return {"status": "ok", "processes": [{"role": "relay", "pid": 7, "restarts": 0, "since": 1.0}]}

    def ready(self):
        return False

    def traces(self, limit, wanted):
        if wanted:
            raise ValueError(f"cannot filter by {', '.join(wanted)}")
        return [{"limit": limit}]

    def trace(self, trace_id):
        return [{"trace_id": trace_id.hex()}] if trace_id.hex() == TRACE else []

    def drift(self):
        return {"series": []}

    def incidents(self):
        return []

    def baselines(self):
        return [{"model": "org/m", "variant": ""}]

    def export_baseline(self, model, variant):
        raise ValueError(f"no reference of {model!r} {variant!r}")

    def import_baseline(self, model, variant, document):
        raise ValueError("broken")

    def change_baseline(self, model, variant, action):
        self.changed = (model, variant, action)


@pytest.fixture
async def admin(request):
    settings = getattr(request, "param", AdminSettings())
    view = Shown()
    runner = web.AppRunner(application(view, settings))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        session.view = view
        yield session
    await runner.cleanup()


async def error(response):
    return response.status, (await response.json())["error"]["message"]


async def test_the_page_needs_nothing_from_elsewhere(admin):
    """It shows on a machine without internet: no address of another host is in it."""
    page = await (await admin.get("/")).text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


async def test_what_is_not_built_is_404_in_json(admin):
    assert (await error(await admin.get("/api/v1/cost")))[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/v1/traces/xyz", 400, "'xyz' is not a trace id: 32 hexadecimal digits"),
        (
            f"/api/v1/traces/{TRACE[:-1]}0",
            404,
            f"trace {TRACE[:-1]}0 is not among the last calls; look for it in ",
        ),
        ("/api/v1/traces?limit=0", 400, "limit is '0'; it goes from 1 to 1000"),
        ("/api/v1/traces?limit=x", 400, "limit is 'x'; it goes from 1 to 1000"),
        ("/api/v1/traces?colour=red", 400, "cannot filter by colour"),
        ("/api/v1/baselines/m/-", 400, "no reference of 'm' ''"),
        ("/api/v1/baselines/org%2Fm/canary", 400, "no reference of 'org/m' 'canary'"),
    ],
)
async def test_errors_name_the_value_and_the_fix(admin, path, status, message):
    seen = await error(await admin.get(aiohttp.client.URL(path, encoded=True)))
    assert seen[0] == status
    assert seen[1].startswith(message)


async def test_readiness_is_a_status_code(admin):
    assert (await admin.get("/readyz")).status == 503
    assert (await admin.get("/healthz")).status == 200


async def test_a_model_with_a_slash_can_be_pinned(admin):
    url = aiohttp.client.URL("/api/v1/baselines/org%2Fm/-/pin", encoded=True)
    assert (await admin.post(url)).status == 200
    assert admin.view.changed == ("org/m", "", "pin")


WITH_TOKEN = AdminSettings(listen="0.0.0.0:9464", token="t0ken")
EVERYTHING = AdminSettings(token="t0ken", metrics_auth=True)


@pytest.mark.parametrize("admin", [WITH_TOKEN], indirect=True)
async def test_a_token_is_asked_for_except_by_probes_and_scrapes(admin):
    free = {"/healthz": 200, "/readyz": 503, "/metrics": 200}
    assert {path: (await admin.get(path)).status for path in free} == free
    assert (await admin.get("/api/v1/drift")).status == 401
    assert (await admin.get("/")).headers["WWW-Authenticate"].startswith("Basic")
    basic = "Basic " + base64.b64encode(b"me:t0ken").decode()
    for authorization, status in (
        ("Bearer t0ken", 200),
        (basic, 200),
        ("Bearer no", 401),
        ("Basic !", 401),
        ("t0ken", 401),
    ):
        seen = await admin.get("/api/v1/drift", headers={"Authorization": authorization})
        assert seen.status == status, authorization


@pytest.mark.parametrize("admin", [EVERYTHING], indirect=True)
async def test_metrics_can_ask_for_the_token_too(admin):
    assert (await admin.get("/metrics")).status == 401
    assert (await admin.get("/metrics", headers={"Authorization": "Bearer t0ken"})).status == 200


async def test_process_ids_are_shown_on_loopback(admin):
    assert (await (await admin.get("/healthz")).json())["processes"][0]["pid"] == 7
