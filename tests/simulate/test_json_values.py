import json
from random import Random

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.simulate.json_values import broken, instance, written

_leaves = st.one_of(
    st.just({"type": "string"}),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["number", "null"]}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.text(), min_size=1, max_size=3)),
    st.builds(lambda value: {"const": value}, st.integers()),
)
schemas = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 2}, inner),
        st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties),
                "additionalProperties": False,
            },
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
    ),
    max_leaves=8,
)


@given(schema=schemas, seed=st.integers())
def test_values_meet_their_schema(schema, seed):
    """What the simulated model writes in JSON mode is valid until it is spoiled on purpose."""
    text = written(instance(schema, "en", Random(seed)))
    assert jsonschema_rs.validator_for(schema).is_valid(json.loads(text))


@given(
    value=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())), seed=st.integers()
)
def test_broken_json_never_parses(value, seed):
    """Whatever the object, and whichever way it is spoiled."""
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken(written(value), Random(seed)))
