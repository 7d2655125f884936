"""What llhttp takes for a message of HTTP/1.1 and a relay must not pass on.

A message that two parsers may understand in two ways is refused rather than mended: where they disagree, one
client's bytes become another one's request, or its response. llhttp refuses most of these by itself
(`tests/relay/test_smuggling.py` lists them); here is the rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httptools

from driftline.relay.headers import Headers
from driftline.relay.transaction import Refusal

if TYPE_CHECKING:
    from driftline.relay.request import Request

_HOST = re.compile(rb"[ \t]*(?:\[[\w:.%~-]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?[ \t]*")
"""`uri-host [ ":" port ]` (RFC 3986 §3.2.2), which leaves out user information, paths and lists."""
_MOST_LENGTH = 2**63 - 1
"""Servers count a body in a signed number of 64 bits; one more would be negative there (RFC 9110 §8.6)."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (([1-9]\d\d)(?: [\t -~\x80-\xff]*)?)\r\n")
"""RFC 9112 §4. llhttp also takes empty lines before it, other protocols, and NUL in the reason."""
_BODILESS = frozenset({204, 304})
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


class Overhead:
    """Counts what frames a body. Chunk extensions and trailers may go on for ever, and llhttp lets them (RFC 9112
    §7.1.1)."""

    __slots__ = ("_body_size", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes since the last one of the body; 0 it again for the next message."""
        self._body_size = 0

    def add(self, read: int, body_size: int) -> int:
        """The size after a read of `read` bytes, with which the body has `body_size`."""
        self.size = self.size + read if body_size == self._body_size else 0
        self._body_size = body_size
        return self.size


# Requests


def fault(request: Request) -> Refusal | None:
    """Why `request` may not go on, whoever it is for; None for nearly all."""
    if request.version not in ("1.0", "1.1"):
        return Refusal(505, f"HTTP/{request.version} is not spoken here", "http_version")
    return _method(request) or _target(request) or _host(request) or _framing(request)


def _method(request: Request) -> Refusal | None:
    if request.method == b"CONNECT":
        return Refusal(405, "CONNECT is for forward proxies; this is a reverse proxy", "method_not_allowed")
    if request.method == b"TRACE":
        # The answer would show the request's credentials, and where it ends depends on who counts as a hop.
        return Refusal(405, "TRACE is not passed on (RFC 9110 §9.3.8)", "method_not_allowed")
    return None


def _target(request: Request) -> Refusal | None:
    target = request.target
    if b"#" in target or not target.startswith((b"/", b"*")):
        return Refusal(
            400,
            "the target is neither a path nor an http URL, without a fragment (RFC 9112 §3.2)",
            "bad_http",
        )
    return None


def _host(request: Request) -> Refusal | None:
    hosts = request.headers.all(b"host")
    if len(hosts) > 1 or (not hosts and request.version == "1.1"):
        return Refusal(
            400, f"{len(hosts) or 'no'} Host headers; HTTP/1.1 needs one (RFC 9112 §3.2)", "bad_host"
        )
    if hosts and not _HOST.fullmatch(hosts[0]):
        return Refusal(400, "the Host header names no host (RFC 9112 §3.2)", "bad_host")
    return None


def _framing(request: Request) -> Refusal | None:
    if request.upgrade and (request.chunked or request.length):
        return Refusal(400, "a request to upgrade with a body is not passed on", "bad_http")
    if (request.length or 0) > _MOST_LENGTH:
        return Refusal(413, f"a body of {request.length} bytes is more than can be counted", "body_too_large")
    if not request.chunked:
        return None
    if request.version == "1.0":
        return Refusal(400, "chunked framing in an HTTP/1.0 request (RFC 9112 §6.1)", "bad_http")
    codings = b",".join(request.headers.all(b"transfer-encoding"))
    if codings.strip(b" \t").lower() != b"chunked":
        return Refusal(
            501, "a Transfer-Encoding other than chunked is not known here (RFC 9112 §6.1)", "transfer_coding"
        )
    return None


# Responses; errors are `httptools.HttpParserError`, as llhttp's own are.


def check_part_of_head(head: bytes, limit: int) -> None:
    """`head` has no end yet. A server that ends its lines otherwise would be waited for in vain."""
    if _BARE_LINE_FEED.search(head):
        raise httptools.HttpParserError("a line feed without its carriage return (RFC 9112 §2.2)")
    if len(head) > limit:
        raise httptools.HttpParserError(f"its header is larger than {limit} bytes")


def status_line(head: bytes) -> tuple[int, bytes]:
    """Status, and the status line as a client gets it."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise httptools.HttpParserError("its status line is none of HTTP/1.x (RFC 9112 §4)")
    return int(line[2]), b"HTTP/1.1 " + line[1]


def framing(method: bytes, status: int, received: Headers) -> str:
    """How the body's end is known: "none" (there is no body), "chunked", "length" or "close" (RFC 9112 §6.3)."""
    if method == b"HEAD" or status in _BODILESS:
        return "none"
    if b"transfer-encoding" not in received:
        return "length" if b"content-length" in received else "close"
    *before, last = b",".join(received.all(b"transfer-encoding")).lower().split(b",")
    if any(coding.strip() == b"chunked" for coding in before):
        raise httptools.HttpParserError("chunked is not its last transfer coding (RFC 9112 §6.1)")
    return "chunked" if last.strip() == b"chunked" else "close"
