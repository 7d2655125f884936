import asyncio

import uvloop


def pytest_asyncio_loop_factories():
    """Every claim about sockets holds on both event loops: uvloop in production, asyncio as the reference."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
