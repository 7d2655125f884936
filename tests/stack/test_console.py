"""The console, as a browser shows it."""

from __future__ import annotations

from collections.abc import Callable

from tests.stack.components.chromium import Chromium
from tests.stack.components.http import post_json
from tests.stack.components.process import wait_until
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.vllm import Vllm


def test_the_page_shows_the_last_calls(
    vllm: Vllm, sidecar: Callable[..., Sidecar], chromium: Chromium
) -> None:
    """A call made a moment ago is on the page, with its model and its tokens."""
    running = sidecar(vllm.url)
    body = {
        "model": vllm.model,
        "messages": [{"role": "user", "content": "hello there"}],
        "max_tokens": 6,
        "ignore_eos": True,
    }
    assert post_json(f"{running.url}/v1/chat/completions", body)[0] == 200
    [trace] = wait_until(lambda: running.api("traces")["traces"])
    html = chromium.html(running.admin)
    assert trace["trace_id"][:8] in html
    assert vllm.model in html
