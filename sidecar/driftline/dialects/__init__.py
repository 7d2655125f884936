"""From what the relay saw to what it meant: pure functions `Exchange` → `Call`, one file per API.

Adding an API is a file with a `read(exchange) -> Call` that never raises, and a line in `_READERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from driftline.call import Call
from driftline.dialects import openai_chat, openai_completions, openai_embeddings, openai_responses
from driftline.exchange import Exchange

_READERS: dict[str, dict[tuple[str, str], Callable[[Exchange], Call]]] = {
    "openai": {
        ("POST", "/v1/chat/completions"): openai_chat.read,
        ("POST", "/v1/completions"): openai_completions.read,
        ("POST", "/v1/embeddings"): openai_embeddings.read,
        ("POST", "/v1/responses"): openai_responses.read,
    },
}
"""By kind of route, then by method and end of path: what stands before `/v1` is a gateway's prefix."""


def read(exchange: Exchange) -> Call | None:
    """The call in `exchange`. None: it is not a model call that is read here, and passes untraced.

    Never raises, whatever the bytes are.
    """
    if exchange.outcome == "tunnelled":
        return None
    _, v1, end = exchange.path.rpartition("/v1/")
    reader = _READERS.get(exchange.kind, {}).get((exchange.method, v1 + end))
    return reader(exchange) if reader else None
