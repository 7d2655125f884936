"""Cutting JSON leaves JSON, of the same shape, never larger than asked."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.tracing.truncate import fit

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)
value = st.recursive(
    leaf | text,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(codec="ascii")), inner, max_size=5)
    ),
    max_leaves=20,
)


def is_cut(whole: Any, cut: Any) -> bool:
    """Same shape and values, strings excepted: those are whole, or a beginning and the mark."""
    if type(whole) is not type(cut):
        return False
    if isinstance(whole, str):
        head, dots, _ = cut.rpartition("…")
        marked = bool(dots) and cut == f"{head}…[{len(whole)} characters]" and whole.startswith(head)
        return cut == whole or marked
    if isinstance(whole, dict):
        return list(whole) == list(cut) and all(is_cut(whole[key], cut[key]) for key in whole)
    if isinstance(whole, list):
        return len(whole) == len(cut) and all(map(is_cut, whole, cut))
    return bool(whole == cut)


def is_without_some(whole: list[Any], cut: list[Any]) -> bool:
    """Elements are left out of the middle only."""
    return any(
        is_cut(whole[:first] + whole[len(whole) - (len(cut) - first) :], cut) for first in range(len(cut) + 1)
    )


@given(st.lists(value, max_size=12), st.integers(0, 3000))
def test_is_valid_and_fits_and_keeps_the_shape(elements: list[Any], limit: int) -> None:
    document = msgspec.json.encode(elements)
    fitted = fit(document, limit)
    if fitted is None:
        assert len(document) > limit
        return
    assert len(fitted) <= limit
    cut = json.loads(fitted)
    assert is_without_some(json.loads(document), cut)
    assert len(document) > limit or fitted == document


@pytest.mark.parametrize("limit", range(100, 700, 7))
def test_never_cuts_an_escape(limit: int) -> None:
    """Quotes, control characters, what JSON writes as several bytes: every limit gives valid JSON."""
    elements = [{"type": "text", "content": '"\\\n\x01é😀' * 100}]
    fitted = fit(msgspec.json.encode(elements), limit)
    assert fitted is not None
    assert len(fitted) <= limit
    assert is_cut(elements, json.loads(fitted))


def test_uses_the_room_it_has() -> None:
    fitted = fit(msgspec.json.encode([{"content": "a" * 10_000}]), 1000)
    assert fitted is not None
    assert len(fitted) == 1000


def test_the_longest_strings_pay() -> None:
    elements = [{"role": "user", "content": "short"}, {"role": "user", "content": "x" * 5000}]
    fitted = fit(msgspec.json.encode(elements), 400)
    assert fitted is not None
    first, second = json.loads(fitted)
    assert first == elements[0]
    assert second["content"].endswith("…[5000 characters]")


def test_types_and_ids_stay_whole() -> None:
    """Nothing below 64 bytes is cut, so that a tool's answer still finds its call."""
    part = {"type": "tool_call_response", "id": "chatcmpl-tool-" + "0" * 32, "response": "r" * 900}
    fitted = fit(msgspec.json.encode([part]), 256)
    assert fitted is not None
    assert {key: json.loads(fitted)[0][key] for key in ("type", "id")} == {
        key: part[key] for key in ("type", "id")
    }


def test_of_many_messages_the_first_and_the_last_stay() -> None:
    messages = [{"role": "user", "content": f"message {i} {'.' * 40}"} for i in range(200)]
    fitted = fit(msgspec.json.encode(messages), 2000)
    assert fitted is not None
    kept = json.loads(fitted)
    assert (kept[0], kept[-1]) == (messages[0], messages[-1])
    assert 10 < len(kept) < 30


def test_of_two_the_last_stays() -> None:
    messages = [{"n": list(range(100))}, {"n": 2}]
    assert fit(msgspec.json.encode(messages), 20) == b'[{"n":2}]'


def test_what_cannot_be_made_to_fit_is_none() -> None:
    assert fit(msgspec.json.encode([list(range(1000))]), 100) is None
    assert fit(b'["abc"]', 3) is None
