"""`POST /v1/completions`."""

from __future__ import annotations

from typing import Any

from driftline.call import Call, Message, OutputMessage, TextPart
from driftline.dialects import content, openai, openai_stream
from driftline.dialects.outcome import settle
from driftline.dialects.wire import Int64, Shape
from driftline.exchange import Exchange


class _Request(openai.Sampling):
    prompt: str | list[Any] | None = None
    max_tokens: Int64 | None = None


class _Choice(openai_stream.ChunkChoice, gc=False):
    """Of a reply, and of an event: the two have one form."""

    text: str | None = None


class _Reply(openai.Envelope):
    choices: list[_Choice] = []


class _Chunk(openai_stream.Chunk, gc=False):
    choices: list[_Choice] = []


_REQUEST = Shape(_Request)
_REPLY = Shape(_Reply)
_CHUNK = Shape(_Chunk)


def read(exchange: Exchange) -> Call:
    call = openai.call(exchange, "openai_completions", "text_completion")
    request = content.request(call, _REQUEST)
    if request is not None:
        openai.read_sampling(call, request)
        call.parameters.max_tokens = request.max_tokens
        call.input_messages = prompts(request.prompt)
    if exchange.status >= 400:
        settle(call, finished=True, error=openai.status_error(call))
    elif exchange.stream:
        _read_stream(call)
    else:
        _read_reply(call)
    return call


def prompts(given: str | list[Any] | None) -> list[Message]:
    """One message per text. Token ids (`[7, 7]`, `[[7, 7]]`) are no text, and leave none."""
    texts = given if isinstance(given, list) else [given]
    return [Message("user", [TextPart(text)]) for text in texts if isinstance(text, str)]


def _read_reply(call: Call) -> None:
    reply = content.response(call, _REPLY)
    if reply is not None:
        openai.read_envelope(call, reply)
        call.usage = openai.usage(reply.usage)
        for choice in sorted(reply.choices, key=lambda choice: choice.index):
            call.output_messages.append(_message(choice.text or "", choice.finish_reason))
    settle(call, finished=reply is not None)


def _read_stream(call: Call) -> None:
    chunks, done = content.response_events(call, _CHUNK)
    texts: dict[int, list[str]] = {}
    finishes: dict[int, str] = {}
    contents = 0
    for chunk in chunks:
        for choice in chunk.choices:
            pieces = texts.setdefault(choice.index, [])
            if choice.text:
                pieces.append(choice.text)
                contents += 1
            if choice.finish_reason is not None:
                finishes[choice.index] = choice.finish_reason
    call.output_messages = [
        _message("".join(texts.get(index, ())), finishes.get(index)) for index in sorted({*texts, *finishes})
    ]
    openai_stream.read_chunks(call, chunks, done=done, contents=contents)


def _message(text: str, finish: str | None) -> OutputMessage:
    return OutputMessage("assistant", [TextPart(text)] if text else [], openai.finish_reason(finish))
