"""What can be read of a JSON object of which only the beginning and the end were kept. Sans-IO."""

from __future__ import annotations

import json
import re
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(rb',(?=[ \t\n\r]*")')
_TAIL_BYTES = 8192
_TAIL_TRIES = 64

_decoder = json.JSONDecoder()


def members(head: bytes, tail: bytes) -> dict[str, Any]:
    """Top-level members found whole in `head` or in `tail`; of an array cut in `head`, its whole elements."""
    return _first_members(head.decode("utf-8", "replace")) | _last_members(tail)


def _first_members(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        at = _after(text, 0, "{")
        while True:
            key, at = _decoder.raw_decode(text, _skip(text, at))
            at = _skip(text, _after(text, at, ":"))
            if text[at] == "[":
                found[key] = []
                at = _elements(text, at, found[key])
            else:
                found[key], at = _value(text, at)
            at = _after(text, at, ",")
    except (ValueError, IndexError, TypeError, RecursionError):
        return found


def _elements(text: str, at: int, elements: list[Any]) -> int:
    """Fill `elements` as far as the array goes; the offset after it."""
    at = _skip(text, at + 1)
    if text[at] == "]":
        return at + 1
    while True:
        element, at = _value(text, at)
        elements.append(element)
        at = _skip(text, at)
        if text[at] == "]":
            return at + 1
        at = _skip(text, _after(text, at, ","))


def _value(text: str, at: int) -> tuple[Any, int]:
    value, end = _decoder.raw_decode(text, at)
    if end == len(text):
        raise ValueError("a number that ends where the text is cut may go on")
    return value, end


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _after(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at] != mark:
        raise ValueError(f"{mark} expected")
    return at + 1


def _last_members(tail: bytes) -> dict[str, Any]:
    """The members with which the object ends.

    A suffix from a comma before a string that, with `{` for the comma, is a JSON object consists of members of the
    outermost object: were it deeper, a closing bracket would be left over; were it inside a string, the
    number of unescaped quotes after it would be odd.
    """
    tail = tail[-_TAIL_BYTES:]
    found: dict[str, Any] = {}
    starts = [comma.end() for comma in _COMMA.finditer(tail)]
    for start in reversed(starts[-_TAIL_TRIES:]):
        try:
            found = json.loads(b"{" + tail[start:])
        except (ValueError, RecursionError):
            continue
    return found
