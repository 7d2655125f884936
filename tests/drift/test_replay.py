"""Replay: the detector over recordings, and the command that runs it."""

import csv
import json

import pytest
from click.testing import CliRunner

from driftline.commands.drift import command
from driftline.drift.replay import learn, replay
from tests.drift.traffic import START, Traffic, quick

CONFIG = """\
drift:
  slot: 1s
  scales: [1s, 5s]
  learn: 20s
  minimum: 50
  features: [input_tokens, finish_reason, refusal]
"""


def write(path, calls):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "model", "tenant", "input_tokens", "finish_reason", "refusal"])
        for call in calls:
            rows.writerow([call.timestamp, call.model, call.tenant, *call.values.values()])
    return path


@pytest.fixture
def files(tmp_path):
    """Normal traffic, and the same with longer prompts from its 30th second on."""
    source = Traffic(1)
    reference = write(tmp_path / "reference.csv", source.calls(START, 40))
    stream = write(
        tmp_path / "stream.csv",
        [
            *source.calls(START + 40, 30),
            *source.calls(START + 70, 10, longer=3),
            *source.calls(START + 80, 10),
        ],
    )
    config = tmp_path / "driftline.yaml"
    config.write_text(CONFIG)
    return reference, stream, config


def run(*arguments):
    result = CliRunner().invoke(command, ["replay", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_whole_recording_is_the_reference_however_long_it_is():
    calls = list(Traffic(1).calls(START, 55))
    (baseline,) = learn(calls, quick(), first=START, last=calls[-1].timestamp, rows=len(calls))
    assert json.loads(baseline)["features"]["refusal"]["dispersion"]["1s"]["windows"] == 55
    assert sum(json.loads(baseline)["features"]["refusal"]["counts"]) == 5_500


def test_too_short_a_recording_is_no_reference():
    calls = list(Traffic(1).calls(START, 1))
    with pytest.raises(
        ValueError, match=r"needs 250 calls, five times drift.minimum \(50\), and input_tokens has 100"
    ):
        learn(calls, quick(), first=START, last=calls[-1].timestamp, rows=len(calls))


def test_delays_count_from_the_change():
    source = Traffic(1)
    calls = [*source.calls(START, 30), *source.calls(START + 30, 10, longer=3)]
    replayed = replay(calls, quick(), changed_at=START + 30)
    (opened,) = replayed.incidents
    assert (opened.delay_seconds, opened.delay_rows) == (1.0, 100)
    assert replayed.rows == 4_000


def test_the_json_is_what_the_contract_says(files):
    reference, stream, config = files
    code, output = run("--reference", reference, "--stream", stream, "--config", config, "--json")
    result = json.loads(output)
    assert code == 0
    assert result["rows"] == 5_000
    assert result["windows"] == 50 * 3 * 2
    (incident,) = result["incidents"]
    assert {"feature", "severity", "opened_at", "closed_at", "test", "value", "threshold"} <= incident.keys()
    assert incident["feature"] == "input_tokens"
    assert incident["severity"] == "ticket"
    assert incident["opened_at"] == START + 71
    assert incident["closed_at"] == START + 83
    assert incident["value"] > incident["threshold"]
    assert incident["explanation"].startswith("input_tokens of llama moved over 1s (100 calls): ")
    assert incident["trace_ids"][0].startswith(f"{stream}:")
    assert set(result["features"]) == {"input_tokens", "finish_reason", "refusal"}
    assert {f["state"] for f in result["features"].values()} == {"stable"}
    assert result["features"]["input_tokens"]["psi"] < 0.3 < result["features"]["input_tokens"]["largest_psi"]


def test_people_get_a_table_and_sentences(files):
    reference, stream, config = files
    code, output = run("--reference", reference, "--stream", stream, "--config", config)
    assert code == 0
    assert "5,000 rows" in output
    assert "input_tokens of llama moved over 1s (100 calls): " in " ".join(output.split())
    assert "after 31 s and 3,100 rows" in " ".join(output.split())


def test_a_baseline_file_is_a_reference_too(files, tmp_path):
    _, stream, config = files
    calls = list(Traffic(1).calls(START, 40))
    (baseline,) = learn(calls, quick(), first=START, last=calls[-1].timestamp, rows=len(calls))
    exported = tmp_path / "llama.json"
    exported.write_bytes(baseline)
    code, output = run("--reference", exported, "--stream", stream, "--config", config, "--json")
    assert code == 0
    assert len(json.loads(output)["incidents"]) == 1


def test_the_stream_is_its_own_reference_only_when_asked(files):
    _, stream, config = files
    assert run("--stream", stream, "--config", config)[0] == 2
    code, output = run("--stream", stream, "--config", config, "--learn", "20s", "--json")
    assert code == 0
    assert [i["opened_at"] for i in json.loads(output)["incidents"]] == [START + 71]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "input_tokens"], "write NAME=COLUMN"),
        (["--column", "a=b", "--column", "a=c"], "given twice"),
        (["--column", "input_tokens=Tokens"], "no column 'Tokens' among timestamp, model"),
        (["--changed-at", "noon"], "not a time"),
        (["--learn", "5m", "--reference", "/dev/null"], "either --reference FILE, or --learn SPAN"),
    ],
)
def test_arguments_that_cannot_work_say_why(files, arguments, message):
    reference, stream, config = files
    given = arguments if "--reference" in arguments else [*arguments, "--reference", reference]
    code, output = run("--stream", stream, "--config", config, *given)
    assert code != 0
    assert message in " ".join(output.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"timestamp,input_tokens\n1,x\n", "column 'input_tokens': 'x'"),
        (b"timestamp,finish_reason\n1,\xff\n", "not UTF-8"),
    ],
)
def test_files_that_cannot_be_read_say_why(files, tmp_path, content, message):
    reference, _, config = files
    broken = tmp_path / "broken.csv"
    broken.write_bytes(content)
    for arguments in (
        ["--reference", reference, "--stream", broken],
        ["--reference", broken, "--stream", reference],
    ):
        code, output = run(*arguments, "--config", config)
        assert code == 1
        assert str(broken) in output.replace("\n", "")
        assert message in output


def test_a_broken_baseline_says_so(files, tmp_path):
    _, stream, config = files
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    code, output = run("--reference", broken, "--stream", stream, "--config", config)
    assert (code, "not a baseline" in output) == (1, True)


def test_a_broken_configuration_names_the_line(files, tmp_path):
    reference, stream, _ = files
    config = tmp_path / "broken.yaml"
    config.write_text("drift:\n  slot: 5\n")
    code, output = run("--reference", reference, "--stream", stream, "--config", config)
    assert code == 1
    assert f"{config}:2" in output.replace("\n", "")
