"""What is asked and what must be answered, byte for byte, beyond chat (benchmarks/wire.py)."""

from __future__ import annotations

import base64
import random

from benchmarks import wire

CHAT, EMBEDDINGS = b"/v1/chat/completions", b"/v1/embeddings"
MODEL = "spread-10ms"
"""As a request names it: a pace of the upstream."""
REPLY_TOKENS = 40


def embedding_request(number: int) -> bytes:
    return b'{"model":"%b","input":"Where is the key?","encoding_format":"base64","seed":%d}' % (
        MODEL.encode(),
        number,
    )


def embedding(number: int) -> bytes:
    """The reply to it: a vector that tells its request from any other."""
    vector = base64.b64encode(random.Random(number).randbytes(1536))
    return (
        b'{"object":"list","data":[{"index":0,"object":"embedding","embedding":"%b"}],"model":"%b",'
        b'"usage":{"prompt_tokens":5,"total_tokens":5}}' % (vector, wire.MODEL.encode())
    )


def upload(number: int, size: int) -> bytes:
    """A chat request with a picture of `size` bytes in it."""
    picture = base64.b64encode(random.Random(number).randbytes(size))
    return (
        b'{"model":"%b","messages":[{"role":"user","content":[{"type":"image_url","image_url":'
        b'{"url":"data:image/png;base64,%b"}}]}],"max_tokens":%d,"seed":%d,"stream":false}'
        % (MODEL.encode(), picture, REPLY_TOKENS, number)
    )
