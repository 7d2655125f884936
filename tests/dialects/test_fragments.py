"""Of a JSON object cut in the middle, members are found that it has, and no others."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.dialects.fragments import members

names = st.sampled_from(["a", "b", "c", "usage", ",", '"', "\\", '{"'])
texts = st.text(st.sampled_from(list('ab,:"\\{}[]é')))
scalars = st.none() | st.booleans() | st.integers(-999, 999) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12)  # fmt: skip
objects = st.dictionaries(names, values, max_size=6)


@given(objects, st.booleans(), st.data())
@example({"a": ':5}"', "b": 'x,"y":1}'}, False, None)
def test_only_true_members_are_found(value, compact, data):
    """Cut anywhere, in strings and nested values too; of a cut array a beginning is found."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else None).encode()
    cuts = [data.draw(st.integers(0, len(text))) for _ in "ht"] if data else [len(text) // 2] * 2
    for name, found in members(text[: min(cuts)], text[max(cuts) :]).items():
        whole = value[name]
        assert found == whole or found == whole[: len(found)]


@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"model": "m", "max_tokens": 12, "messages": [{"role": "sys', b"", {"model": "m", "max_tokens": 12, "messages": []}),
        (b'{"data":[{"embedding":[0.5,0.25]},{"embedding":[0.1', b'5]}],"usage":{"prompt_tokens":3,"total_tokens":3},"id":"e"}', {"data": [{"embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}, "id": "e"}),
        (b'{"n": 12', b'4, "stream": true}', {"stream": True}),
        (b'{"n": 12', b'4,"stream":true}', {"stream": True}),
        (b"", b' end","temperature":0.5,"stream":true}', {"temperature": 0.5, "stream": True}),
        (b"", b"", {}),
        (b"[1, 2", b"3]", {}),
    ],
)  # fmt: skip
def test_what_is_found(head, tail, found):
    """Parameters before the messages, parameters and usage after them."""
    assert members(head, tail) == found


@given(st.binary(), st.binary())
def test_any_bytes_have_some_members(head, tail):
    """Nothing raises."""
    assert isinstance(members(head, tail), dict)
