"""JSON written by strangers, read into typed structs: at once where it fits, else field by field."""

from __future__ import annotations

import json
import types
import typing
from typing import Annotated, Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What an integer attribute can hold."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Shape(Generic[T]):
    """A struct type whose every field has a default, and its decoders.

    A field of the wrong type takes its default and costs the others nothing. Numbers written as strings are
    read, as servers built on pydantic do.

    >>> class Request(msgspec.Struct):
    ...     model: str = ""
    ...     max_tokens: int | None = None
    >>> Shape(Request).decode(b'{"model": 7, "max_tokens": "12"}')
    Request(model='', max_tokens=12)
    """

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        decoder = msgspec.json.Decoder(kind)
        self.strict = decoder.decode
        """Raises `ValueError` or `RecursionError` for anything that does not fit."""
        self.strict_lines = decoder.decode_lines
        """The same for one value per line."""

    def decode(self, data: bytes) -> T | None:
        """None: not a JSON object."""
        try:
            return self.strict(data)
        except (ValueError, RecursionError):
            return self.fit(parse(data))

    def fit(self, value: Any) -> T | None:
        """Of a JSON value that `parse` or `encodable` made."""
        fitted = _fit(value, self._kind) if isinstance(value, dict) else None
        return fitted if isinstance(fitted, self._kind) else None


def parse(data: bytes) -> Any:
    """The value of JSON in the wide sense: NaN and broken UTF-8 are let in. None: it is not JSON at all."""
    try:
        return encodable(json.loads(data.decode("utf-8", "replace")), data)
    except (ValueError, RecursionError):
        return None


def encodable(value: Any, source: bytes) -> Any:
    """A JSON value read from `source`, without lone surrogates, which no encoder downstream could write."""
    if b"\\u" not in source:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


_NOTHING = object()


def _fit(value: Any, kind: Any) -> Any:
    """`value` as `kind`, with as much of it as fits; `_NOTHING` where nothing does."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except (ValueError, RecursionError):
        pass
    for option in _options(kind):
        if option is msgspec.Raw:
            return msgspec.Raw(msgspec.json.encode(value))
        if isinstance(value, dict) and isinstance(option, type) and issubclass(option, msgspec.Struct):
            return _fit_struct(value, option)
        if isinstance(value, list) and typing.get_origin(option) is list:
            (of,) = typing.get_args(option)
            return [item for item in (_fit(item, of) for item in value) if item is not _NOTHING]
    return _NOTHING


def _options(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _fit_struct(value: dict[str, Any], kind: type[msgspec.Struct]) -> msgspec.Struct:
    fields = {
        field.name: _fit(value[field.encode_name], field.type)
        for field in msgspec.structs.fields(kind)
        if field.encode_name in value
    }
    return kind(**{name: found for name, found in fields.items() if found is not _NOTHING})
