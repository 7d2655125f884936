"""Fitting JSON into a number of bytes from the inside: the result is always JSON of the same shape."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.encode
_MARK = "…[{} characters]"
"""Follows what is left of a string; the number is its original length."""
_SHORTEST = 64
"""Bytes. No string is cut below this, so that types, roles, names and ids stay whole, and the mark fits."""


def fit(document: bytes, limit: int) -> bytes | None:
    """`document`, a JSON array, in at most `limit` bytes.

    First its longest strings are cut, all to the same length, and end in `…[N characters]`, N being what they
    had. Where that is not enough, elements are left out of the middle: the first and the last say most. None
    where not even one element fits.
    """
    if len(document) <= limit:
        return document
    elements: list[Any] = msgspec.json.decode(document)
    while elements:
        fitted = _fit_strings(elements, limit)
        if fitted is not None:
            return fitted
        middle = (len(elements) - 1) // 2
        del elements[middle : middle + max(1, len(elements) // 4)]
    return None


def _fit_strings(elements: list[Any], limit: int) -> bytes | None:
    places = _strings(elements)
    sizes = [_size(holder[key]) for holder, key in places]
    spare = limit - (len(_encode(elements)) - sum(sizes))
    level = _level(sizes, spare)
    if level is None:
        return None
    for (holder, key), size in zip(places, sizes, strict=True):
        if size > level:
            holder[key] = _cut(holder[key], level)
    return _encode(elements)


def _strings(root: list[Any]) -> list[tuple[Any, Any]]:
    """Where the string values are: (container, key or index). Keys of objects are structure and stay."""
    found = []
    pending: list[Any] = [root]
    while pending:
        holder = pending.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(value, str):
                found.append((holder, key))
            elif isinstance(value, dict | list):
                pending.append(value)
    return found


def _level(sizes: list[int], total: int) -> int | None:
    """The size to which all larger ones are cut so that the sum is at most `total`; None: none is enough."""
    left = total
    for i, size in enumerate(ordered := sorted(sizes)):
        share = left // (len(ordered) - i)
        if size > share:
            return share if share >= _SHORTEST else None
        left -= size
    return max(sizes, default=0) if left >= 0 else None


def _cut(text: str, size: int) -> str:
    """A beginning of `text` and the mark, encoded in at most `size` bytes."""
    mark = _MARK.format(len(text))
    room = size - len(mark.encode())
    head = text[:room]
    while (used := _size(head)) > room:
        head = head[: len(head) * room // used]
    return head + mark


def _size(text: str) -> int:
    """Bytes of `text` as JSON."""
    return len(_encode(text))
