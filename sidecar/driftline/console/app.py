"""The admin port: console, metrics, health and the API. It reads; the observer owns."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import resources
from ipaddress import ip_address
from typing import Any

import msgspec
from aiohttp import web

from driftline.config import AdminSettings
from driftline.console.view import View

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NEVER_ASKS = frozenset({"/healthz", "/readyz"})
_MOST_TRACES = 1000


def application(view: View, settings: AdminSettings) -> web.Application:
    """All routes of the admin port over `view`."""
    app = web.Application(middlewares=[_in_json, _asking_for(settings)], client_max_size=8 * 1024 * 1024)
    api = _Api(view, settings)
    app.add_routes(
        [
            web.get("/", api.page),
            web.get("/metrics", api.metrics),
            web.get("/healthz", api.health),
            web.get("/readyz", api.ready),
            web.get("/api/v1/traces", api.traces),
            web.get("/api/v1/traces/{trace_id}", api.trace),
            web.get("/api/v1/drift", api.drift),
            web.get("/api/v1/incidents", api.incidents),
            web.get("/api/v1/baselines", api.baselines),
            web.get("/api/v1/baselines/{model}/{variant}", api.export_baseline),
            web.put("/api/v1/baselines/{model}/{variant}", api.import_baseline),
            web.post("/api/v1/baselines/{model}/{variant}/{action:pin|unpin}", api.change_baseline),
        ]
    )
    return app


class _Api:
    def __init__(self, view: View, settings: AdminSettings) -> None:
        self._view = view
        self._settings = settings
        self._page = resources.files("driftline.console").joinpath("page.html").read_text(encoding="utf-8")

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._view.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def health(self, request: web.Request) -> web.Response:
        """Always 200: this process answers. Process ids only to those who may know them."""
        facts = self._view.health()
        if not (_is_local(request) or _has_token(request, self._settings.token)):
            facts["processes"] = [{k: v for k, v in p.items() if k != "pid"} for p in facts["processes"]]
        return _answer(facts)

    async def ready(self, _: web.Request) -> web.Response:
        ready = self._view.ready()
        return _answer({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def traces(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        limit = _number(query.pop("limit", "100"), "limit", _MOST_TRACES)
        return _answer({"traces": self._view.traces(limit, query)})

    async def trace(self, request: web.Request) -> web.Response:
        text = request.match_info["trace_id"]
        try:
            trace_id = bytes.fromhex(text)
        except ValueError:
            trace_id = b""
        if len(trace_id) != 16:
            raise _problem(400, f"{text!r} is not a trace id: 32 hexadecimal digits")
        calls = self._view.trace(trace_id)
        if not calls:
            raise _problem(
                404, f"trace {text} is not among the last calls; look for it in the tracing backend"
            )
        return _answer({"trace_id": text, "calls": calls})

    async def drift(self, _: web.Request) -> web.Response:
        return _answer(self._view.drift())

    async def incidents(self, _: web.Request) -> web.Response:
        return _answer({"incidents": self._view.incidents()})

    async def baselines(self, _: web.Request) -> web.Response:
        return _answer({"baselines": self._view.baselines()})

    async def export_baseline(self, request: web.Request) -> web.Response:
        return web.Response(body=self._view.export_baseline(*_key(request)), content_type="application/json")

    async def import_baseline(self, request: web.Request) -> web.Response:
        self._view.import_baseline(*_key(request), await request.read())
        return _answer({"baselines": self._view.baselines()})

    async def change_baseline(self, request: web.Request) -> web.Response:
        self._view.change_baseline(*_key(request), request.match_info["action"])
        return _answer({"baselines": self._view.baselines()})


def _key(request: web.Request) -> tuple[str, str]:
    """Model and variant; `-` is the variant without a name."""
    variant = request.match_info["variant"]
    return request.match_info["model"], "" if variant == "-" else variant


def _answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _problem(status: int, message: str) -> web.HTTPException:
    error = {"error": {"message": message, "type": HTTPStatus(status).phrase.lower().replace(" ", "_")}}
    raised = web.HTTPException(text=json.dumps(error), content_type="application/json")
    raised.set_status(status)
    return raised


def _number(text: str, name: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise _problem(400, f"{name} is {text!r}; it goes from 1 to {most}")
    return int(text)


@web.middleware
async def _in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors of the API in JSON, whoever raises them."""
    try:
        return await handler(request)
    except KeyError as error:
        raise _problem(404, str(error.args[0])) from None
    except ValueError as error:
        raise _problem(400, str(error)) from None
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        raise _problem(405, f"{request.method} is not for {request.path}; {allowed} is") from None
    except web.HTTPNotFound as error:
        if error.content_type == "application/json":
            raise
        known = "see / for the console, /metrics, /healthz, /readyz and /api/v1/…"
        raise _problem(404, f"{request.path} is not known; {known}") from None


def _asking_for(settings: AdminSettings) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        free = request.path in _NEVER_ASKS or (request.path == "/metrics" and not settings.metrics_auth)
        if settings.token and not free and not _has_token(request, settings.token):
            raise web.HTTPUnauthorized(
                text=json.dumps(
                    {"error": {"message": "send Authorization: Bearer <admin.token>", "type": "unauthorized"}}
                ),
                content_type="application/json",
                # Browsers ask for a name and a password: any name, the token as password.
                headers={"WWW-Authenticate": 'Basic realm="driftline"'},
            )
        return await handler(request)

    return check


def _has_token(request: web.Request, token: str) -> bool:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value).decode().partition(":")[2]
        except ValueError:
            return False
    elif kind.lower() != "bearer":
        return False
    return bool(token) and hmac.compare_digest(value.strip().encode(), token.encode())


def _is_local(request: web.Request) -> bool:
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
