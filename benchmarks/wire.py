"""What the mock upstream says, byte for byte.

The upstream sends these bytes and the load generator expects them, so a proxy that drops, doubles, alters or
mixes up anything is found out. The form is that of vLLM 0.26's Python frontend as recorded: one event in an
HTTP chunk, every null spelled out, `system_fingerprint` on the last event before `[DONE]`.

The content of an event is the moment it was sent, in nanoseconds of the machine's monotonic clock: sender and
receiver share it, so every chunk carries its own one-way latency.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

MODEL = "bench"
CREATED = 1795424367
FINGERPRINT = ',"system_fingerprint":"vllm-0.26.0-f5581a32"'
DIGITS = 20
"""Width of a moment: a fixed one, so that every event of a stream has the same size."""
BODY_BYTES = 700
"""Of every request, and of every reply that is no stream."""
PROMPT_TOKENS = 140

DONE = b"data: [DONE]\n\n"


def _head(request: int) -> str:
    return (
        f'data: {{"id":"chatcmpl-{request:016x}","object":"chat.completion.chunk","created":{CREATED},'
        f'"model":"{MODEL}","choices":['
    )


def role_event(request: int) -> bytes:
    """The first event of a stream: a role and no content."""
    return (
        f'{_head(request)}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,'
        '"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}\n\n'
    ).encode()


def delta_template(request: int) -> bytes:
    """An event of one token; `%` with nanoseconds gives the event."""
    return (
        f'{_head(request)}{{"index":0,"delta":{{"content":"%0{DIGITS}d"}},"logprobs":null,'
        '"finish_reason":null,"token_ids":null}]}\n\n'
    ).encode()


def finish_template(request: int, *, usage: bool) -> bytes:
    """The event of the last token. The fingerprint moves to the usage event where there is one."""
    return (
        f'{_head(request)}{{"index":0,"delta":{{"content":"%0{DIGITS}d"}},"logprobs":null,'
        f'"finish_reason":"length","stop_reason":null,"token_ids":null}}]{"" if usage else FINGERPRINT}}}\n\n'
    ).encode()


def usage_event(request: int, tokens: int) -> bytes:
    return (
        f'{_head(request)}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},'
        f'"total_tokens":{PROMPT_TOKENS + tokens},"completion_tokens":{tokens},'
        '"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}}'
        f"{FINGERPRINT}}}\n\n"
    ).encode()


def chunk(payload: bytes) -> bytes:
    """`payload` as one chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def reply(request: int) -> bytes:
    """The reply to a request that does not stream."""
    start = (
        f'{{"id":"chatcmpl-{request:016x}","object":"chat.completion","created":{CREATED},"model":"{MODEL}",'
        '"choices":[{"index":0,"message":{"role":"assistant","content":"'
    )
    end = (
        '","refusal":null,"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"length",'
        f'"stop_reason":null}}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},'
        f'"total_tokens":{PROMPT_TOKENS + 40},"completion_tokens":40,'
        '"prompt_tokens_details":{"cached_tokens":0}}}'
    )
    return f"{start}{_prose(BODY_BYTES - len(start) - len(end))}{end}".encode()


def request_body(request: int, *, tokens: int, stream: bool, model: str = MODEL) -> bytes:
    """A chat request of `BODY_BYTES`; `seed` names the request, so that its reply can be told from any other.

    It does not ask for usage, as most applications do not: a proxy that wants to know has to ask, and to cut
    the answer out again. The upstream's paces are its models.
    """
    start = f'{{"model":"{model}","messages":[{{"role":"user","content":"'
    end = f'"}}],"max_tokens":{tokens},"seed":{request},"stream":{"true" if stream else "false"}}}'
    return f"{start}{_prose(BODY_BYTES - len(start) - len(end))}{end}".encode()


def completion_body(request: int, *, tokens: int, model: str) -> bytes:
    """A streaming request as the recorded ones: the prompt as token ids, as many as tokens are asked for."""
    prompt = ",".join(str((request + at) * 7919 % 32_000) for at in range(tokens))
    return (
        f'{{"model":"{model}","prompt":[{prompt}],"max_tokens":{tokens},"temperature":1,'
        f'"ignore_eos":true,"seed":{request},"stream":true}}'
    ).encode()


def _prose(length: int) -> str:
    sentence = "The quick brown fox jumps over the lazy dog and comes back. "
    return (sentence * (length // len(sentence) + 1))[:length]


Fault = Literal["incomplete", "altered"]


class Stream(NamedTuple):
    """The events of one stream. Templates (`%` with nanoseconds gives the event) are those of its tokens."""

    opening: bytes
    """Before the first token; empty where a stream has nothing to say there."""
    delta: bytes
    """Template of every token but the last."""
    last: bytes
    """Template of the last token."""
    ending: tuple[bytes, ...]
    """After the last token."""


Form = Callable[[int, int, bool], Stream]
"""How a frontend spells the stream of a request, by its number, its tokens and whether it asked for usage."""


def chat(request: int, tokens: int, usage: bool) -> Stream:
    """`/v1/chat/completions` of the Python frontend."""
    return Stream(
        role_event(request),
        delta_template(request),
        finish_template(request, usage=usage),
        (usage_event(request, tokens), DONE) if usage else (DONE,),
    )


def python_completion(request: int, tokens: int, usage: bool) -> Stream:
    """`/v1/completions` of the Python frontend: 240 bytes for a token, framing included."""

    def event(finish: str, after: str = "") -> bytes:
        return _completion(
            request,
            f'{{"index":0,"text":"%0{DIGITS}d","logprobs":null,"finish_reason":{finish},"stop_reason":null,'
            '"prompt_token_ids":null,"token_ids":null}',
            after,
        )

    if not usage:
        return Stream(b"", event("null"), event('"length"', FINGERPRINT), (DONE,))
    counts = f'{_counts(tokens)},"prompt_tokens_details":{{"cached_tokens":0}}}}{FINGERPRINT}'
    return Stream(b"", event("null"), event('"length"'), (_completion(request, "", counts), DONE))


def rust_completion(request: int, tokens: int, usage: bool) -> Stream:
    """`/v1/completions` of the Rust frontend: 142 bytes for a token; the reason to finish comes by itself."""
    token = _completion(request, f'{{"index":0,"text":"%0{DIGITS}d"}}')
    finish = _completion(request, '{"index":0,"text":"","finish_reason":"length"}')
    counts = f'{_counts(tokens)},"prompt_tokens_details":null}}'
    ending = (finish, _completion(request, "", counts), DONE) if usage else (finish, DONE)
    return Stream(b"", token, token, ending)


def _completion(request: int, choice: str, after: str = "") -> bytes:
    # The id is a short one, so that a moment may stand for a word and the event still has its recorded size.
    return (
        f'data: {{"id":"{request:05x}","object":"text_completion","created":{CREATED},'
        f'"model":"m","choices":[{choice}]{after}}}\n\n'
    ).encode()


def _counts(tokens: int) -> str:
    total = PROMPT_TOKENS + tokens
    return f',"usage":{{"prompt_tokens":{PROMPT_TOKENS},"total_tokens":{total},"completion_tokens":{tokens}'


class Expected:
    """The body of one stream as its client, that did not ask for usage, must see it, moments aside."""

    def __init__(self, request: int, tokens: int, form: Form = chat) -> None:
        opening, delta, last, ending = form(request, tokens, False)
        delta, last = delta % 0, last % 0
        self.body = opening + delta * (tokens - 1) + last + b"".join(ending)
        self.first_size = len(opening or delta)
        self.ends = [len(opening) + len(delta) * (i + 1) for i in range(tokens - 1)]
        """Where in the body each event of a token ends."""
        self.ends.append(len(opening) + len(delta) * (tokens - 1) + len(last))
        at = delta.index(b"0" * DIGITS)
        self._moments = [len(opening) + len(delta) * i + at for i in range(tokens)]

    def check(self, body: bytes) -> Fault | list[int]:
        """The moment each token was sent in nanoseconds, or what is wrong with `body`."""
        if len(body) < len(self.body):
            return "incomplete"
        blank = bytearray(body)
        for at in self._moments:
            blank[at : at + DIGITS] = b"0" * DIGITS
        moments = [body[at : at + DIGITS] for at in self._moments]
        if blank != self.body or not all(moment.isdigit() for moment in moments):
            return "altered"
        return [int(moment) for moment in moments]
