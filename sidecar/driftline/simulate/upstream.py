"""A simulated upstream: answers like vLLM's OpenAI server, without a model.

The same seed and the same request give the same reply, streamed or not, whoever asked before. It calls
itself simulated in its `Server` header, its model's name and its fingerprint.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from random import Random
from typing import Any, NoReturn, TypeVar, cast, get_args

import msgspec
from aiohttp import web

from driftline.simulate import forms, replies, streams, text
from driftline.simulate.engine import Engine
from driftline.simulate.requests import ChatRequest, CompletionRequest, EmbeddingRequest, Generation

MODEL = "simulated-8b"
SERVER = "driftline-simulated-upstream"
STEER = "x-simulate"

_Decoded = TypeVar("_Decoded", ChatRequest, CompletionRequest, EmbeddingRequest)
_Draw = Callable[[Random], replies.Reply]


class Totals(msgspec.Struct):
    """What a test or a reader of `/metrics` wants to know."""

    requests: int = 0
    finished: int = 0
    aborted: int = 0
    """The client left before its reply was whole."""
    prompt_tokens: int = 0
    generation_tokens: int = 0


class SimulatedUpstream:
    """The aiohttp application and its state.

    `stream_interval` is vLLM's option of that name: tokens per stream event after the first. `time_scale`
    multiplies every wait; 0 answers at once. `tokens_per_step` is that of speculative decoding.
    """

    def __init__(
        self,
        *,
        model: str = MODEL,
        seed: int = 0,
        time_scale: float = 1.0,
        tokens_per_step: float = 1.0,
        stream_interval: int = 1,
        max_model_len: int = 32_768,
        behaviour: replies.Behaviour | None = None,
    ) -> None:
        self.model = model
        self.totals = Totals()
        self.engine = Engine(time_scale=time_scale, tokens_per_step=tokens_per_step, seed=seed)
        self._seed = seed
        self._interval = stream_interval
        self._max_model_len = max_model_len
        self._behaviour = behaviour or replies.Behaviour()
        self._fingerprint = f"simulated-{blake2b(f'{model}:{seed}'.encode(), digest_size=4).hexdigest()}"
        self._started = int(time.time())
        self.app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[_as_vllm])
        self.app.on_response_prepare.append(_say_simulated)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_post("/v1/chat/completions", self._chat)
        self.app.router.add_post("/v1/completions", self._completions)
        self.app.router.add_post("/v1/embeddings", self._embeddings)

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serves while the context is open and yields the base URL. Raises `OSError` for a port in use."""
        # Without handler_cancellation a reply would go on after its client left.
        runner = web.AppRunner(self.app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            bound, bound_port = runner.addresses[0][:2]
            yield f"http://[{bound}]:{bound_port}" if ":" in bound else f"http://{bound}:{bound_port}"
        finally:
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        values = {"running": self.engine.running, **msgspec.structs.asdict(self.totals)}
        lines = [f'simulated_{name}{{model_name="{self.model}"}} {value}\n' for name, value in values.items()]
        return web.Response(text="".join(lines))

    async def _models(self, _: web.Request) -> web.Response:
        card = {
            "id": self.model,
            "object": "model",
            "created": self._started,
            "owned_by": SERVER,
            "root": self.model,
            "parent": None,
            "max_model_len": self._max_model_len,
            "permission": [],
        }
        return _json({"object": "list", "data": [card]})

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        request = _decoded(await http.read(), ChatRequest)
        if not request.messages:
            _refuse(400, "BadRequestError", "messages must not be empty", "messages")
        asked = [request.messages, request.response_format, request.tools, request.tool_choice]
        return await self._generate(
            http,
            request,
            forms.ChatForms,
            prompt=text.tokens(request.prompt),
            asked=msgspec.json.encode(asked),
            draw=lambda rng: replies.chat_reply(request, self._behaviour, _steering(http), rng),
        )

    async def _completions(self, http: web.Request) -> web.StreamResponse:
        request = _decoded(await http.read(), CompletionRequest)
        prompt = request.prompt
        return await self._generate(
            http,
            request,
            forms.CompletionForms,
            prompt=text.tokens(prompt) if isinstance(prompt, str) else [str(token) for token in prompt],
            asked=msgspec.json.encode(prompt),
            draw=lambda rng: replies.completion_reply(request, rng),
        )

    async def _embeddings(self, http: web.Request) -> web.Response:
        request = _decoded(await http.read(), EmbeddingRequest)
        self._check_model(request.model)
        many = (
            isinstance(request.input, list) and bool(request.input) and not isinstance(request.input[0], int)
        )
        inputs: list[Any] = list(request.input) if many else [request.input]
        data = []
        for index, value in enumerate(inputs):
            rng = self._rng(msgspec.json.encode(value))
            vector = [rng.uniform(-1, 1) for _ in range(request.dimensions or 64)]
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            embedding = vector if request.encoding_format == "float" else packed
            data.append({"index": index, "object": "embedding", "embedding": embedding})
        count = sum(len(text.tokens(value) if isinstance(value, str) else value) for value in inputs)
        self.totals.prompt_tokens += count
        usage = {
            "prompt_tokens": count,
            "total_tokens": count,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        }
        head = {
            "id": f"embd-{_request_id(http)}",
            "object": "list",
            "created": int(time.time()),
            "model": self.model,
        }
        return _json({**head, "data": data, "usage": usage})

    async def _generate(
        self,
        http: web.Request,
        request: Generation,
        form: type[forms.Forms],
        *,
        prompt: list[str],
        asked: bytes,
        draw: _Draw,
    ) -> web.StreamResponse:
        """Checks the request, draws its choices and answers with a body or a stream."""
        self._check_model(request.model)
        self._check_length(request, len(prompt))
        steering = _steering(http)
        if steering == "fail":
            _refuse(500, "InternalServerError", "simulated failure")
        rng = self._rng(asked)
        choices = [draw(rng) for _ in range(request.n)]
        cached, created = self.engine.cache(prompt)
        tokens = forms.Tokens(prompt=len(prompt), cached=cached, created=created)
        shape = form(_request_id(http), int(time.time()), self.model, self._fingerprint)
        with self._running(tokens):
            await asyncio.sleep(self.engine.prefill(len(prompt) - cached))
            if request.stream:
                stream = streams.events(request, shape, choices, tokens, interval=self._interval, rng=rng)
                return await self._stream(
                    http, streams.failing(stream) if steering == "fail-midway" else stream
                )
            await asyncio.sleep(self.engine.decode(max(reply.tokens for reply in choices)))
            tokens.output = sum(reply.tokens for reply in choices)
            wanted = request.logprob_count
            bodies = [
                shape.choice(i, reply, None if wanted is None else forms.logprobs(reply.pieces, wanted, rng))
                for i, reply in enumerate(choices)
            ]
            return _json(shape.body(bodies, tokens))

    async def _stream(self, http: web.Request, stream: Iterator[tuple[int, bytes]]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(http)
        try:
            for tokens, event in stream:
                if tokens:
                    await asyncio.sleep(self.engine.decode(tokens))
                await response.write(event)
        except ConnectionError:
            # The client left, and this write found out before aiohttp could cancel the handler.
            raise asyncio.CancelledError from None
        return response

    @contextmanager
    def _running(self, tokens: forms.Tokens) -> Iterator[None]:
        self.totals.requests += 1
        self.totals.prompt_tokens += tokens.prompt
        self.engine.running += 1
        try:
            yield
            self.totals.finished += 1
        except asyncio.CancelledError:
            self.totals.aborted += 1
            raise
        finally:
            self.totals.generation_tokens += tokens.output
            self.engine.running -= 1

    def _rng(self, asked: bytes) -> Random:
        return Random(b"%d:%b" % (self._seed, asked))

    def _check_model(self, model: str) -> None:
        if model != self.model:
            _refuse(404, "NotFoundError", f"The model `{model}` does not exist.", "model")

    def _check_length(self, request: Generation, prompt: int) -> None:
        if request.stream_options is not None and not request.stream:
            message = "Stream options can only be defined when `stream=True`."
            _refuse(400, "BadRequestError", message, "stream_options")
        longest, output = self._max_model_len, request.limit or 1
        if prompt + output > longest:
            message = (
                f"This model's maximum context length is {longest} tokens. However, you requested {output} "
                f"output tokens and your prompt contains {prompt} input tokens, for a total of "
                f"{prompt + output} tokens. Please reduce the length of the input prompt or the number of "
                f"requested output tokens. (parameter=input_tokens, value={prompt})"
            )
            _refuse(400, "BadRequestError", message, "input_tokens")


def _json(value: forms.Json) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _refuse(status: int, kind: str, message: str, param: str | None = None) -> NoReturn:
    body = msgspec.json.encode(forms.error(status, kind, message, param))
    raise _Refusal(status, body)


class _Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.response = web.Response(status=status, body=body, content_type="application/json")


@web.middleware
async def _as_vllm(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Error replies in vLLM's words; where no route matches, in those of the framework it stands on."""
    try:
        return await handler(request)
    except _Refusal as refusal:
        return refusal.response
    except web.HTTPException as unrouted:
        body = msgspec.json.encode({"detail": unrouted.reason})
        return web.Response(status=unrouted.status, body=body, content_type="application/json")


async def _say_simulated(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["server"] = SERVER


def _decoded(body: bytes, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        _refuse(400, "Bad Request", str(error))


def _steering(http: web.Request) -> replies.Steering:
    value = http.headers.get(STEER, "")
    known = get_args(replies.Steering)
    if value not in known:
        _refuse(400, "BadRequestError", f"{STEER}: {value!r} is not one of {', '.join(filter(None, known))}")
    return cast(replies.Steering, value)


def _request_id(http: web.Request) -> str:
    return http.headers.get("x-request-id") or uuid.uuid4().hex
