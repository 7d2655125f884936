"""The admin port's paths, as its application has them."""

from __future__ import annotations

from aiohttp import web

from driftline.config import AdminSettings
from driftline.console.app import application
from driftline.console.view import View


def routes() -> set[tuple[str, str]]:
    """Method and path; `{action}` is spelled out."""
    app = application(View, AdminSettings())
    return {
        (route.method, route.resource.canonical.replace("{action}", action))
        for route in app.router.routes()
        if isinstance(route.resource, web.Resource) and route.method != "HEAD"
        for action in ("pin", "unpin")
    }
