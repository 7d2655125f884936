"""What the mock upstream says, byte for byte.

The upstream sends these bytes and the load generator expects them, so a proxy that drops, doubles, alters or
mixes up anything is found out. The form is that of vLLM 0.26's Python frontend as recorded: one event in an
HTTP chunk, every null spelled out, `system_fingerprint` on the last event before `[DONE]`.

The content of an event is the moment it was sent, in nanoseconds of the machine's monotonic clock: sender and
receiver share it, so every chunk carries its own one-way latency.
"""

from __future__ import annotations

from typing import Literal

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


def request_body(request: int, *, tokens: int, stream: bool) -> bytes:
    """A chat request of `BODY_BYTES`; `seed` names the request, so that its reply can be told from any other.

    It does not ask for usage, as most applications do not: a proxy that wants to know has to ask, and to cut
    the answer out again.
    """
    start = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"'
    end = f'"}}],"max_tokens":{tokens},"seed":{request},"stream":{"true" if stream else "false"}}}'
    return f"{start}{_prose(BODY_BYTES - len(start) - len(end))}{end}".encode()


def _prose(length: int) -> str:
    sentence = "The quick brown fox jumps over the lazy dog and comes back. "
    return (sentence * (length // len(sentence) + 1))[:length]


Fault = Literal["incomplete", "altered"]


class Expected:
    """The body of one stream as its client must see it, moments aside."""

    def __init__(self, request: int, tokens: int) -> None:
        role, delta = role_event(request), delta_template(request) % 0
        finish = finish_template(request, usage=False) % 0
        self.body = role + delta * (tokens - 1) + finish + DONE
        self.first_size = len(role)
        self.ends = [len(role) + len(delta) * (i + 1) for i in range(tokens - 1)]
        """Where in the body each event of a token ends."""
        self.ends.append(len(role) + len(delta) * (tokens - 1) + len(finish))
        at = delta.index(b"0" * DIGITS)
        self._moments = [len(role) + len(delta) * i + at for i in range(tokens)]

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
