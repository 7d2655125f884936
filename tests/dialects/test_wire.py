"""JSON of strangers is read as far as it fits."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.dialects.wire import Count, Int64, Shape


class Inner(msgspec.Struct):
    name: str | None = None
    size: Count | None = None


class Outer(msgspec.Struct):
    model: str = ""
    limit: Int64 | None = None
    ratio: float | None = None
    inner: Inner | str | None = None
    many: list[Inner] | None = None
    raw: msgspec.Raw = msgspec.Raw()


OUTER = Shape(Outer)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model": "m", "limit": 3, "unknown": {}}', Outer("m", 3)),
        (b'{"model": 7, "limit": 3}', Outer(limit=3)),
        (b'{"model": "m", "limit": "3", "ratio": "0.5"}', Outer("m", 3, 0.5)),
        (b'{"limit": 9223372036854775808, "ratio": 1}', Outer(ratio=1.0)),
        (b'{"limit": 1e400, "model": "m"}', Outer("m")),
        (b'{"ratio": true, "model": "m"}', Outer("m")),
        (b'{"model": "m", "inner": {"name": [], "size": 4}}', Outer("m", inner=Inner(size=4))),
        (b'{"model": "m", "inner": 4}', Outer("m")),
        (b'{"model": 1, "inner": "text"}', Outer(inner="text")),
        (b'{"many": [{"name": 1}, 5, {"size": -1}, {"size": 2}]}', Outer(many=[Inner(), Inner(), Inner(size=2)])),
        (b'{"many": {"0": 1}, "model": "m"}', Outer("m")),
        (b'{"model": "a\\ud800b"}', Outer("a\ufffdb")),
        (b'{"model": "\\ud83d\\ude00", "limit": []}', Outer("\U0001f600")),
        (b'{"model": "\xff"}', Outer("\ufffd")),
    ],
)  # fmt: skip
def test_one_bad_field_costs_no_other(body, expected):
    """Wrong types, numbers out of range and broken text take a field's default, or its nearest sense."""
    assert OUTER.decode(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"{}"', b"null", b"{} {}", b"\xef\xbb\xbf{}", b"[" * 5000]
)
def test_what_is_not_a_json_object_is_nothing(body):
    """No guess is made of other values, halves, or bytes before an object."""
    assert OUTER.decode(body) is None


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
fields = st.dictionaries(
    st.sampled_from(["model", "limit", "ratio", "inner", "many", "raw", "name", "size"]), values
)


@given(fields)
def test_what_is_read_can_always_be_written_on(value):
    """Whatever the types, the result is of the declared ones and can be encoded as UTF-8."""
    read = OUTER.decode(json.dumps(value).encode())
    assert isinstance(read, Outer)
    read.raw = msgspec.Raw(b"null")
    msgspec.json.encode(read)
    assert read.limit is None or -(2**63) <= read.limit < 2**63
