"""JSON as a model writes it: values that meet a schema, and the ways in which models spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from driftline.simulate.text import passage

Schema = dict[str, Any] | bool


def instance(schema: Schema, language: str, rng: Random) -> Any:
    """A value that meets `schema`, for the keywords that schemas of requests are made of.

    Known: `enum`, `const`, `type`, `properties` (all are given), `items`, `minItems`, `minimum`, `maximum`,
    `anyOf` (its first). Other keywords are not looked at, so a schema that relies on them may be missed.
    """
    if isinstance(schema, bool):
        return None
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], language, rng)
    kind = schema.get("type", "object")
    make = _BY_TYPE.get(kind[0] if isinstance(kind, list) else kind)
    return None if make is None else make(schema, language, rng)


def _object(schema: dict[str, Any], language: str, rng: Random) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties", {})
    return {name: instance(part, language, rng) for name, part in properties.items()}


def _array(schema: dict[str, Any], language: str, rng: Random) -> list[Any]:
    count = max(schema.get("minItems", 0), rng.randint(1, 3))
    return [instance(schema.get("items", {"type": "string"}), language, rng) for _ in range(count)]


_BY_TYPE: dict[str, Callable[[dict[str, Any], str, Random], Any]] = {
    "object": _object,
    "array": _array,
    "integer": lambda schema, _, rng: rng.randint(schema.get("minimum", 0), schema.get("maximum", 100)),
    "number": lambda schema, _, rng: round(
        rng.uniform(schema.get("minimum", 0), schema.get("maximum", 1)), 2
    ),
    "boolean": lambda _, __, rng: rng.random() < 0.5,
    "string": lambda _, language, rng: "".join(passage(rng.randint(3, 14), language, rng)).strip(),
}


def written(value: Any) -> str:
    """`value` as a model writes it."""
    return json.dumps(value, ensure_ascii=False)


def broken(text: str, rng: Random) -> str:
    """`text`, a JSON object, spoiled in one of the ways models do; never valid JSON."""
    ways = (
        f"```json\n{text}\n```",
        f"Here is the JSON you asked for:\n{text}",
        text[:-1] + ",}",
        text.rstrip("}"),
        text.replace('"', "'"),
        text[:-1] + "} // checked",
    )
    return rng.choice([way for way in ways if not _is_json(way)])


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
