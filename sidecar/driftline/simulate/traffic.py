"""Sends a workload to any OpenAI-compatible server, at its own pace, and counts what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from driftline.simulate.workload import Request, Workload, arrivals


class Tally(msgspec.Struct):
    """Of one run. `sent` is the sum of `ok`, `left`, `failed` and what is still in flight."""

    sent: int = 0
    ok: int = 0
    left: int = 0
    """Streams given up by their client, on purpose."""
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    """By kind: `HTTP 500`, `error in the stream`, the name of a connection error."""
    held_back: int = 0
    """Requests that came due while as many as allowed were in flight."""
    input_tokens: int = 0
    """As reported by the server, where it did."""
    output_tokens: int = 0
    in_flight: int = 0


class Failed(Exception):  # noqa: N818  (of a request, counted by kind)
    """A reply that was not a success."""


class Traffic:
    """Clients of one server, as an open loop: a slow server does not slow the arrivals.

    Only at `concurrency` requests in flight do further ones wait, which is counted.
    """

    def __init__(
        self,
        target: str,
        workload: Workload,
        *,
        rate: float,
        seed: int = 0,
        day: float = 0.0,
        concurrency: int = 512,
    ) -> None:
        self.tally = Tally()
        self.workload = workload
        self._target = target.rstrip("/")
        self._due: Iterator[float] = arrivals(rate, Random(f"{seed}:arrivals"), day=day)
        self._next = next(self._due)
        self._slots = asyncio.Semaphore(concurrency)
        self._requests: set[asyncio.Task[None]] = set()
        self._started: float | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hangs up on whatever is still in flight."""
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self._session.close()

    async def run(self, until: float = float("inf")) -> None:
        """Sends what is due before `until`, in seconds since the first call; may be called again."""
        loop = asyncio.get_running_loop()
        if self._started is None:
            self._started = loop.time()
        while self._next < until:
            await asyncio.sleep(self._started + self._next - loop.time())
            if self._slots.locked():
                self.tally.held_back += 1
            await self._slots.acquire()
            self._send(self.workload.next())
            self._next = next(self._due)
        await asyncio.sleep(self._started + until - loop.time())

    async def drain(self) -> None:
        """Waits for the replies to everything sent."""
        while self._requests:
            await asyncio.wait(self._requests)

    def _send(self, request: Request) -> None:
        self.tally.sent += 1
        self.tally.in_flight += 1
        task = asyncio.get_running_loop().create_task(self._exchange(request))
        self._requests.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._slots.release()
        self.tally.in_flight -= 1
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise error  # a fault of ours: the loop's exception handler shows it

    async def _exchange(self, request: Request) -> None:
        tally = self.tally
        headers = {"content-type": "application/json", **request.headers}
        body = msgspec.json.encode(request.body)
        try:
            async with self._session.post(
                self._target + request.path, data=body, headers=headers
            ) as response:
                usage = await _read(response, leaves=request.leaves)
        except Left:
            tally.left += 1
        except Failed as failure:
            _count(tally.failed, str(failure))
        except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            _count(tally.failed, type(error).__name__)
        else:
            tally.ok += 1
            tally.input_tokens += usage.prompt_tokens
            tally.output_tokens += usage.completion_tokens


class Left(Exception):  # noqa: N818  (a way to end, not a fault)
    """The client hung up on its stream, on purpose."""


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(msgspec.Struct):
    usage: _Usage | None = None


async def _read(response: aiohttp.ClientResponse, *, leaves: bool) -> _Usage:
    """What the server says it used; nothing where it does not say."""
    if response.status >= 400:
        raise Failed(f"HTTP {response.status}")
    if response.content_type != "text/event-stream":
        return _usage(await response.read())
    whole = bytearray()
    async for data in response.content.iter_any():
        whole += data
        if leaves and whole.count(b"\n\n") > 1:
            response.close()
            raise Left
    events = whole.split(b"\n\n")
    if any(event.startswith(b'data: {"error"') for event in events):
        raise Failed("error in the stream")
    if b"data: [DONE]" not in events:
        raise Failed("the stream ended early")
    with_usage = [event for event in events if b'"usage"' in event]
    return _usage(with_usage[-1].removeprefix(b"data: ")) if with_usage else _Usage()


def _usage(body: bytes | bytearray) -> _Usage:
    return msgspec.json.decode(body, type=_Reply).usage or _Usage()


def _count(kinds: dict[str, int], kind: str) -> None:
    kinds[kind] = kinds.get(kind, 0) + 1


class Model(msgspec.Struct):
    """Of the server: the first one it lists."""

    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[Model]


async def first_model(target: str) -> Model:
    """What the server at `target` serves. Raises `ConnectionError`, with the reason, if it does not say."""
    url = f"{target.rstrip('/')}/v1/models"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.get(url) as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise ConnectionError(f"{url} answers {response.status}")
        return msgspec.json.decode(body, type=_Models).data[0]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConnectionError(f"{url} does not answer: {error or type(error).__name__}") from None
    except (msgspec.DecodeError, IndexError):
        raise ConnectionError(f"{url} does not answer as an OpenAI-compatible server does") from None
