"""Recordings: what is meant is read, and what is not gets a message with the place and the fix."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.drift.recording import Recording, RecordingError, seconds
from driftline.drift.settings import DriftSettings

NOW = 1_800_000_000.0


def read(text, **changes):
    settings = {"features": DriftSettings().features, "now": NOW}
    return list(Recording(text.splitlines(keepends=True), "calls.csv", **{**settings, **changes}))


def test_csv_is_read():
    first, second = read(
        "timestamp,model,tenant,input_tokens,ttft,finish_reason,refusal,cost\n"
        "1700000000.5,llama,acme,120,0.25,stop,false,9\n"
        "1700000001,llama,,7,,length,yes,9\n"
    )
    assert (first.timestamp, first.model, first.variant, first.tenant) == (
        1_700_000_000.5,
        "llama",
        "",
        "acme",
    )
    assert first.values == {"input_tokens": 120, "ttft": 0.25, "finish_reason": "stop", "refusal": False}
    assert first.trace_id == "calls.csv:2"
    assert second.values == {"input_tokens": 7, "finish_reason": "length", "refusal": True}


def test_json_lines_are_read():
    rows = [
        {"timestamp": "2023-11-14T22:13:20Z", "input_tokens": 5, "refusal": True, "trace_id": "abc"},
        {"timestamp": 1_700_000_001, "input_tokens": None},
    ]
    first, second = read("\n".join(json.dumps(row) for row in rows))
    assert (first.timestamp, first.trace_id) == (1_700_000_000.0, "abc")
    assert first.values == {"input_tokens": 5, "refusal": True}
    assert second.values == {"input_tokens": None}


def test_an_empty_cell_does_not_apply_and_null_is_missing():
    values = [o.values for o in read("timestamp,ttft,input_tokens\n1,,1\n2,null,1\n3,NaN,1\n")]
    assert values == [
        {"input_tokens": 1},
        {"ttft": None, "input_tokens": 1},
        {"ttft": None, "input_tokens": 1},
    ]


def test_columns_may_have_other_names():
    """As the public Azure trace has."""
    (call,) = read(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n",
        columns={"input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"},
    )
    assert call.timestamp == pytest.approx(1_700_158_623.97996)
    assert call.values == {"input_tokens": 4808, "output_tokens": 10}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1700000000", 1_700_000_000.0),
        (1_700_000_000.25, 1_700_000_000.25),
        ("2023-11-14T22:13:20+00:00", 1_700_000_000.0),
        ("2023-11-14 23:13:20+01:00", 1_700_000_000.0),
        ("2023-11-14T22:13:20", 1_700_000_000.0),
        ("20231114T221320Z", 1_700_000_000.0),
    ],
)
def test_times_are_seconds_or_iso_8601(written, expected):
    assert seconds(written) == expected


@pytest.mark.parametrize("written", ["", "yesterday", "nan", "inf", True, None, "2023-13-01"])
def test_anything_else_is_no_time(written):
    with pytest.raises(ValueError):
        seconds(written)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "calls.csv: the file is empty; it needs a header line"),
        ("\n\n", "calls.csv: the file is empty"),
        ("timestamp,input_tokens\n", "calls.csv: the file has a header and no rows"),
        ("time,input_tokens\n1,2\n", "calls.csv:1: no column 'timestamp' among time, input_tokens; did you mean --column timestamp=time?"),
        ("timestamp,tokens\n1,2\n", "calls.csv:1: no column of timestamp, tokens is one of the features input_tokens"),
        ("timestamp,input_tokens\n1,2\n2,many\n", "calls.csv:3: column 'input_tokens': 'many': input_tokens is a number; leave it empty where it does not apply"),
        ("timestamp,input_tokens\n1,-2\n", "calls.csv:2: column 'input_tokens': '-2': input_tokens is a whole number, at least 0"),
        ("timestamp,input_tokens\n1,2.5\n", "'2.5': input_tokens is a whole number"),
        ("timestamp,ttft\n1,inf\n", "'inf': ttft is a number"),
        ("timestamp,refusal\n1,maybe\n", "calls.csv:2: column 'refusal': 'maybe': refusal is true or false; write one of true, yes, 1"),
        ("timestamp,input_tokens\n1,2,3\n", "calls.csv:2: 3 cells under a header of 2; quote cells that hold commas"),
        ('timestamp,finish_reason\n1,"stop\n', "calls.csv:2: not CSV"),
        ("timestamp,input_tokens\nnoon,2\n", "calls.csv:2: column 'timestamp': 'noon': not a time; write seconds"),
        ("timestamp,input_tokens\n,2\n", "calls.csv:2: column 'timestamp': no timestamp"),
        ("timestamp,input_tokens\n2,2\n1,2\n", "calls.csv:3: column 'timestamp': '1': before the row above it; sort the file by time"),
        ("timestamp,input_tokens\n1900000000,2\n", "calls.csv:2: column 'timestamp': '1900000000': in the future; correct it"),
        ("timestamp,input_tokens\n1700000000000,2\n", "in the future; it looks like milliseconds: divide by 1000"),
        ("timestamp,input_tokens\n1,\n", "no row has a value for any of input_tokens"),
        ('{"timestamp": 1, "input_tokens": 2}\nnonsense\n', "calls.csv:2: not JSON"),
        ('{"timestamp": 1, "input_tokens": 2}\n[1]\n', "calls.csv:2: a JSON list, not an object"),
        ('{"input_tokens": 2}\n', "calls.csv:1: column 'timestamp': no timestamp"),
        ('{"timestamp": true, "input_tokens": 2}\n', "calls.csv:1: column 'timestamp': True: not a time"),
        ('{"timestamp": 1, "input_tokens": true}\n', "calls.csv:1: column 'input_tokens': True: input_tokens is a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_the_place_the_value_and_the_fix(text, message):
    with pytest.raises(RecordingError) as error:
        read(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"input_tokns": "a"}, "'input_tokns' is no column of ours; did you mean input_tokens?"),
        (
            {"input_tokens": "Tokns"},
            "no column 'Tokns' among timestamp, Tokens; did you mean --column input_tokens=Tokens?",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(columns, message):
    with pytest.raises(RecordingError) as error:
        read("timestamp,Tokens\n1,2\n", columns=columns)
    assert message in str(error.value)


def read_or_refused(text):
    """The calls of `text`, or what was said of it."""
    try:
        return read(text), ""
    except RecordingError as error:
        return [], str(error)


@given(st.text(max_size=200))
def test_no_text_does_anything_but_be_read_or_refused(text):
    calls, refusal = read_or_refused("timestamp,input_tokens,finish_reason\n" + text)
    assert calls or refusal.startswith("calls.csv")


WHOLE = 'timestamp,input_tokens,finish_reason\n1,20,"stop"\n2,30,length\n3,40,"a,b"\n'


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_file_that_was_cut_anywhere_is_read_up_to_there_or_refused(length):
    calls, refusal = read_or_refused(WHOLE[:length])
    assert refusal.startswith("calls.csv") or calls
    assert [call.timestamp for call in calls] == [1.0, 2.0, 3.0][: len(calls)]
