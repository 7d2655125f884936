"""Protocol Buffers' wire format, as much of it as OTLP needs: https://protobuf.dev/programming-guides/encoding/.

Writing: every function returns a complete field, so that messages are joins. As proto3 has it, a field of its
default value is not written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

Scalar = str | bool | int | float | bytes
Value = Scalar | Sequence[Scalar]
"""Of an attribute."""
Attributes = Mapping[str, Value]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BYTE = [bytes([number]) for number in range(128)]
_DOUBLE = struct.Struct("<d").pack
_FIXED64_PACK = struct.Struct("<Q").pack
_SFIXED64_PACK = struct.Struct("<q").pack
_FIXED32_PACK = struct.Struct("<I").pack


# Writing


def varint(number: int) -> bytes:
    """0 or above, in groups of seven bits, the lowest first."""
    if number < 128:
        return _BYTE[number]
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def message(field: int, content: bytes) -> bytes:
    """A message, written even where it is empty; also the form of strings and bytes."""
    return _tag(field, _BYTES) + varint(len(content)) + content


def text(field: int, value: str) -> bytes:
    return message(field, _utf8(value)) if value else b""


def binary(field: int, value: bytes) -> bytes:
    return message(field, value) if value else b""


def integer(field: int, value: int) -> bytes:
    """Of the types int32, int64, uint32, uint64, bool and enum. Raises `OverflowError` above 64 bits."""
    return _tag(field, _VARINT) + _int64(value) if value else b""


def double(field: int, value: float) -> bytes:
    """Written even where it is 0, as optional doubles and those of a oneof are."""
    return _tag(field, _FIXED64) + _DOUBLE(value)


def fixed64(field: int, value: int) -> bytes:
    return _tag(field, _FIXED64) + _FIXED64_PACK(value) if value else b""


def sfixed64(field: int, value: int) -> bytes:
    """Written even where it is 0, as those of a oneof are."""
    return _tag(field, _FIXED64) + _SFIXED64_PACK(value)


def fixed32(field: int, value: int) -> bytes:
    return _tag(field, _FIXED32) + _FIXED32_PACK(value) if value else b""


def packed_fixed64(field: int, values: Iterable[int]) -> bytes:
    return binary(field, b"".join(map(_FIXED64_PACK, values)))


def packed_doubles(field: int, values: Iterable[float]) -> bytes:
    return binary(field, b"".join(map(_DOUBLE, values)))


def attributes(field: int, values: Attributes) -> bytes:
    """OTLP's `repeated KeyValue`. Raises `OverflowError` for an integer above 64 bits.

    The hot path. Most attributes of a span were on the last one too, so those that are likely to are kept; numbers
    and truths apart, since 1 == True == 1.0.
    """
    written = []
    for key, value in values.items():
        kind = type(value)
        if kind is str and len(value) <= _SHORT:  # type: ignore[arg-type]
            written.append(_text_again(field, key, value))
        elif kind is int:
            written.append(_number_again(field, key, value))
        elif kind is float:
            written.append(_head(field, key, 9) + b"\x21" + _DOUBLE(value))
        elif kind is bool:
            written.append(_truth_again(field, key, value))
        else:
            written.append(_attribute(field, key, value))
    return b"".join(written)


def _attribute(field: int, key: str, value: Value) -> bytes:
    content = any_value(value)
    return _head(field, key, len(content)) + content


_SHORT = 64
"""Characters. Longer texts do not come again, and would fill the memory."""
_text_again = lru_cache(maxsize=1024)(_attribute)
_number_again = lru_cache(maxsize=1024)(_attribute)
_truth_again = lru_cache(maxsize=256)(_attribute)


@lru_cache(maxsize=1024)
def _head(field: int, key: str, size: int) -> bytes:
    """Of a `KeyValue`, all that stands before the content of its value, which takes `size` bytes."""
    head = message(1, _utf8(key)) + _tag(2, _BYTES) + varint(size)
    return _tag(field, _BYTES) + varint(len(head) + size) + head


def any_value(value: Value) -> bytes:
    """The content of OTLP's `AnyValue`: a oneof, so that defaults are written too."""
    if isinstance(value, str):
        return message(1, _utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _int64(value)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    if isinstance(value, bytes):
        return message(7, value)
    return message(5, b"".join([message(1, any_value(item)) for item in value]))


@lru_cache(maxsize=256)
def _tag(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)


def _int64(value: int) -> bytes:
    if 0 <= value < 128:
        return _BYTE[value]
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"{value} does not fit into 64 bits")
    return varint(value & (2**64 - 1))


def _utf8(value: str) -> bytes:
    """A string field must be UTF-8: one lone surrogate would cost a whole batch."""
    return value.encode("utf-8", "replace")


# Reading


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; fixed-width numbers are left as their bytes.

    Raises `ValueError` where it is no message.
    """
    at, end = 0, len(content)
    while at < end:
        key, at = _read_varint(content, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(content, at)
            yield field, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(content, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("cut short")
        yield field, content[at : at + size]
        at += size


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("cut short")
