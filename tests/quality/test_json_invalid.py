"""JSON that was asked for is judged as the client that reads it would."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.call import JsonMode, TextPart, Tool, ToolCallPart
from driftline.quality.json_invalid import _NOT_JSON, JsonInvalidSignal, parse
from tests.quality.replies import replied

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "when": {"type": "string", "format": "date"}},
    "required": ["x"],
}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}


def verdict(*choices, schema=None, **fields):
    return JsonInvalidSignal().score(replied(*choices, **({"json_mode": JsonMode(schema)} | fields)))


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ('{"x": 1}', None, "valid"),
        (' \n{"x": 1}\n', None, "valid"),
        ("[1]", None, "schema"),
        ("not JSON", None, "not_json"),
        ("", None, "not_json"),
        ('Here you are: {"x": 1}', None, "not_json"),
        ('```json\n{"x": 1}\n```', None, "fenced"),
        ('```\n{"x": 1}```\n', None, "fenced"),
        ("```json\nnot JSON\n```", None, "not_json"),
        ('{"x": 1}', POINT, "valid"),
        ('{"x": 1.0}', POINT, "valid"),
        ('{"x": "1"}', POINT, "schema"),
        ("{}", POINT, "schema"),
        ('{"x": 1, "when": "2026-02-29"}', POINT, "schema"),
        ('{"x": 1, "when": "2028-02-29"}', POINT, "valid"),
        ("[[], [[]]]", TREE, "valid"),
        ("[[], [[1]]]", TREE, "schema"),
        ("[1]", {"type": "array"}, "valid"),
        ("7", True, "valid"),
        ("7", False, "schema"),
        ('{"x": 1}', {"type": "no such type"}, "valid"),
        ('{"x": 1}', {"pattern": "("}, "valid"),
    ],
)
def test_json_mode(text, schema, expected):
    """Any object without a schema, what the schema says with one; a broken schema holds nothing against a reply."""
    assert verdict(text, schema=schema) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"x": 1}', "valid"),
        ('{"x": "1"}', "tool_schema"),
        ("[]", "tool_schema"),
        ('{"x": 1', "tool_arguments"),
        ("", "tool_arguments"),
    ],
)
def test_tool_calls(arguments, expected):
    """Arguments are judged by the schema of the tool, with JSON mode on or off."""
    for mode in (None, JsonMode()):
        assert (
            verdict(
                [ToolCallPart("t1", "plot", arguments)],
                tools=[Tool("plot", parameters=POINT)],
                json_mode=mode,
            )
            == expected
        )


def test_tools_without_a_schema():
    """Nothing is asked of a tool's arguments but to be an object; the same of a tool nobody offered."""
    assert verdict([ToolCallPart("t1", "now", "{}")], tools=[Tool("now")], json_mode=None) == "valid"
    assert verdict([ToolCallPart("t1", "guess", "[]")], tools=[Tool("now")], json_mode=None) == "tool_schema"


def test_what_is_not_judged():
    """Plain text, tools that were not called, calls that failed, records that were cut."""
    assert verdict("Hi", json_mode=None) is None
    assert verdict("Hi", json_mode=None, tools=[Tool("plot", parameters=POINT)]) is None
    assert verdict("{", error_type="client_closed") is None
    assert verdict("{", truncated_record=True) is None
    assert verdict() is None


def test_a_reply_cut_by_its_length_is_counted_apart():
    """Half a JSON object says nothing about the model."""
    assert verdict('{"x": ', finish="length") == "cut"
    assert verdict([ToolCallPart("t1", "plot", '{"x"')], finish="length", json_mode=None) == "cut"
    assert verdict("Hi", finish="length", json_mode=None) is None


def test_of_several_choices_the_first_fault_counts():
    """One bad choice makes a bad reply."""
    assert verdict('{"x": 1}', "oops", "[]") == "not_json"
    assert (
        verdict(
            [TextPart("Let me see."), ToolCallPart("t1", "plot", "{}")],
            tools=[Tool("plot", parameters=POINT)],
        )
        == "tool_schema"
    )


def test_a_schema_fetches_nothing():
    """A client's schema that names an address is not followed there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        assert verdict('{"x": 1}', schema={"$ref": url}) == "valid"
        with pytest.raises(BlockingIOError):
            server.accept()


VALID = ['{"a":1,"a":2}', '"\\ud800"', '"\\uDFAA"', "1e999", "-0", "1" * 5000, "0.4e00669999999999999999999999999999", '"\\u0000"', "\t[ ]\r\n", '"\x7f"', "[123123e100000]", '{"":0}', "null", '"\u2028"']  # fmt: skip
INVALID = ["NaN", "-Infinity", "[1,]", "{'a':1}", "{a:1}", "01", "1.", ".5", "+1", "0x1", "[1]x", '"\\x41"', '"\t"', '"a\nb"', "\ufeff{}", "\x0c1", "\xa0{}", "[1", '{"a"}', '{"a":1,}', "/**/1", "True", '"\\u12"', "1eE2", "[" * 5000, ""]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_what_the_standard_calls_json(text):
    """RFC 8259's grammar, with its doubtful but valid corners."""
    assert parse(text) is not _NOT_JSON
    assert verdict(text, schema=True) == "valid"


@pytest.mark.parametrize("text", INVALID)
def test_what_the_standard_does_not_call_json(text):
    """Constants, commas, quotes, numbers and whitespace that only some parsers take."""
    assert parse(text) is _NOT_JSON


values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))  # fmt: skip


@given(values, st.data())
def test_json_is_told_from_its_prefixes(value, data):
    """What was written as JSON is valid; an array cut anywhere is not."""
    text = json.dumps([value])
    assert parse(text) == [value]
    assert parse(text[: data.draw(st.integers(0, len(text) - 1))]) is _NOT_JSON
