"""Does a reply that should be JSON hold?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from driftline.call import Call, JsonMode, OutputMessage, Tool
from driftline.dialects.wire import encodable

if TYPE_CHECKING:
    import jsonschema_rs

JsonVerdict = Literal["valid", "not_json", "fenced", "schema", "tool_arguments", "tool_schema", "cut"]
Schema = dict[str, Any] | bool

_FENCED = re.compile(r"\s*```[^\n]*\n(.*?)```\s*", re.DOTALL)
_OBJECT: Schema = {"type": "object"}
_NOT_JSON = object()


class JsonInvalidSignal:
    """Judges replies to requests in JSON mode, and tool calls.

    - `valid`
    - `not_json`: the text is not JSON (RFC 8259) though it was asked for
    - `fenced`: it would be, without the code fence around it; the client fails all the same
    - `schema`: JSON, but not an object, or not what the schema asks
    - `tool_arguments`, `tool_schema`: the like of the arguments of a tool call
    - `cut`: the reply reached its length limit, which says nothing about the model

    Of several choices and calls the first fault counts. Calls that failed do not count, nor do those whose record
    was cut.
    """

    name = "json_invalid"

    def score(self, call: Call) -> JsonVerdict | None:
        if call.error_type or call.truncated_record:
            return None
        verdicts = [verdict for message in call.output_messages for verdict in _judge(call, message)]
        faults = (verdict for verdict in verdicts if verdict != "valid")
        return next(faults, verdicts[0]) if verdicts else None


def _judge(call: Call, message: OutputMessage) -> Iterator[JsonVerdict]:
    calls = message.tool_calls
    if not calls and call.json_mode is None:
        return
    if message.finish_reason == "length":
        yield "cut"
        return
    for tool_call in calls:
        yield _judge_arguments(tool_call.arguments, tool_call.name, call.tools)
    if not calls and call.json_mode is not None:
        yield _judge_text(message.text, call.json_mode)


def _judge_text(text: str, mode: JsonMode) -> JsonVerdict:
    value = parse(text)
    if value is _NOT_JSON:
        fenced = _FENCED.fullmatch(text)
        return "fenced" if fenced and parse(fenced[1]) is not _NOT_JSON else "not_json"
    return "valid" if _meets(value, _OBJECT if mode.schema is None else mode.schema) else "schema"


def _judge_arguments(arguments: str, name: str, tools: list[Tool]) -> JsonVerdict:
    """A tool that was not offered has no schema to miss; its arguments are an object like all others."""
    value = parse(arguments)
    if value is _NOT_JSON:
        return "tool_arguments"
    schema = next((tool.parameters for tool in tools if tool.name == name), None)
    return "valid" if _meets(value, _OBJECT) and _meets(value, schema or _OBJECT) else "tool_schema"


def parse(text: str) -> Any:
    """The value of `text`, or `_NOT_JSON`.

    As RFC 8259 has it: names may repeat, escapes may make lone surrogates and numbers may be of any size, which
    the fast decoder refuses and the standard library takes.
    """
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(text, parse_int=float, parse_constant=_refuse)
        return encodable(value, text.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return _NOT_JSON


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _meets(value: Any, schema: Schema) -> bool:
    """True as well where the schema itself is broken: there is nothing to hold the reply against."""
    validator = _validator(msgspec.json.encode(schema))
    return validator is None or validator.is_valid(value)


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> jsonschema_rs.Validator | None:
    """Formats are asserted. Nothing is fetched: a schema is written by a client, and could name any address."""
    import jsonschema_rs  # noqa: PLC0415  # 8 MB: for those who send schemas, and not for the supervisor

    try:
        return jsonschema_rs.validator_for(msgspec.json.decode(schema), validate_formats=True, offline=True)
    except ValueError:
        return None
