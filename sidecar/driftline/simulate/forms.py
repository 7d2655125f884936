"""The bodies and events of vLLM 0.26's OpenAI server, field by field and in its order.

Written after recorded exchanges of that version (Python frontend); a test compares every shape with them.
Fields that a simulation has nothing to say about hold what the recordings hold there: null.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar

import msgspec

from driftline.simulate.replies import Reply

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"


def event(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def error(status: int, kind: str, message: str, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class Tokens(msgspec.Struct):
    """The engine's counts of one request."""

    prompt: int
    cached: int = 0
    created: int = 0
    """Tokens of the prompt put into the prefix cache."""
    output: int = 0

    def so_far(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.output,
            "completion_tokens": self.output,
        }


class Forms(ABC):
    """The forms of one response. A subclass is one generation endpoint."""

    prefix: ClassVar[str]
    body_object: ClassVar[str]
    chunk_object: ClassVar[str]
    tells_created: ClassVar[bool]
    """Usage says how many tokens were put into the prefix cache."""
    body_tail: ClassVar[Json]

    def __init__(self, request_id: str, created: int, model: str, fingerprint: str) -> None:
        self.request_id = request_id
        self.created = created
        self.model = model
        self.fingerprint = fingerprint

    def _head(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": f"{self.prefix}-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def body(self, choices: list[Json], tokens: Tokens) -> Json:
        """The response to a request that did not ask for a stream."""
        details = {
            "cached_tokens": tokens.cached,
            "created_cache_tokens": tokens.created if self.tells_created else None,
            "multimodal_tokens": None,
        }
        return {
            **self._head(self.body_object, choices),
            "service_tier": None,
            "system_fingerprint": self.fingerprint,
            "usage": {**tokens.so_far(), "prompt_tokens_details": details},
            **self.body_tail,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def chunk(self, choice: Json, usage: Json | None, *, last: bool) -> Json:
        """A stream event. The one before `[DONE]` holds the fingerprint."""
        chunk = self._head(self.chunk_object, [choice])
        if usage is not None:
            chunk["usage"] = usage
        if last:
            chunk["system_fingerprint"] = self.fingerprint
        return chunk

    def usage_chunk(self, tokens: Tokens) -> Json:
        """The extra event of a client that asked for usage."""
        details = {"cached_tokens": tokens.cached}
        if self.tells_created:
            details["created_cache_tokens"] = tokens.created
        return {
            **self._head(self.chunk_object, []),
            "usage": {**tokens.so_far(), "prompt_tokens_details": details},
            "system_fingerprint": self.fingerprint,
        }

    @abstractmethod
    def opening(self, index: int, usage: Json | None) -> Json | None:
        """The event that begins a choice of a stream before it has any content, if the endpoint has one."""

    @abstractmethod
    def delta(
        self,
        index: int,
        reply: Reply,
        pieces: Sequence[str],
        logprobs: Json | None,
        *,
        first: bool,
        last: bool,
    ) -> Json:
        """What one stream event brings of a choice."""

    @abstractmethod
    def choice(self, index: int, reply: Reply, logprobs: Json | None) -> Json:
        """A whole choice of a body."""


class ChatForms(Forms):
    prefix = "chatcmpl"
    body_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    tells_created = True
    body_tail: ClassVar[Json] = {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}

    def opening(self, index: int, usage: Json | None) -> Json:
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self.chunk(choice, usage, last=False), "prompt_token_ids": None, "prompt_text": None}

    def delta(
        self,
        index: int,
        reply: Reply,
        pieces: Sequence[str],
        logprobs: Json | None,
        *,
        first: bool,
        last: bool,
    ) -> Json:
        delta: Json = {"content": "".join(pieces)}
        if reply.tool and pieces:
            delta = {"tool_calls": [{**self._tool_call(index, reply, pieces, named=first), "index": 0}]}
        return {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": reply.finish if last else None,
            **({"stop_reason": None} if last else {}),
            "token_ids": None,
        }

    def choice(self, index: int, reply: Reply, logprobs: Json | None) -> Json:
        message: Json = {
            "role": "assistant",
            "content": None if reply.tool else "".join(reply.pieces),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        if reply.tool:
            message["tool_calls"] = [self._tool_call(index, reply, reply.pieces, named=True)]
        return {
            "index": index,
            "message": {**message, "reasoning": None},
            "logprobs": logprobs,
            "finish_reason": reply.finish,
            "stop_reason": None,
            "token_ids": None,
            "routed_experts": None,
        }

    def _tool_call(self, index: int, reply: Reply, pieces: Sequence[str], *, named: bool) -> Json:
        arguments = "".join(pieces)
        if not named:
            return {"function": {"arguments": arguments}}
        call = {"id": f"chatcmpl-tool-{self.request_id}-{index}", "type": "function"}
        return {**call, "function": {"name": reply.tool, "arguments": arguments}}


class CompletionForms(Forms):
    prefix = "cmpl"
    body_object = "text_completion"
    chunk_object = "text_completion"
    tells_created = False
    body_tail: ClassVar[Json] = {}

    def opening(self, index: int, usage: Json | None) -> None:
        pass

    def delta(
        self,
        index: int,
        reply: Reply,
        pieces: Sequence[str],
        logprobs: Json | None,
        *,
        first: bool,
        last: bool,
    ) -> Json:
        return {
            "index": index,
            "text": "".join(pieces),
            "logprobs": logprobs,
            "finish_reason": reply.finish if last else None,
            "stop_reason": None,
            "prompt_token_ids": None,
            "token_ids": None,
        }

    def choice(self, index: int, reply: Reply, logprobs: Json | None) -> Json:
        return {
            "index": index,
            "text": "".join(reply.pieces),
            "logprobs": logprobs,
            "finish_reason": reply.finish,
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }


def logprobs(pieces: Sequence[str], alternatives: int, rng: Random) -> Json:
    """Of a chat choice: for each token how likely it was, and what else was likely."""

    def entry(token: str, logprob: float) -> Json:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    content = []
    for piece in pieces:
        likely = -rng.expovariate(4)
        others = [entry(f" or{rank}", likely - rank) for rank in range(1, alternatives)]
        top = [entry(piece, likely), *others] if alternatives else []
        content.append({**entry(piece, likely), "top_logprobs": top})
    return {"content": content}
