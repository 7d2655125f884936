"""The pace of a recording: its steps, and who spoke in each."""

import pytest

from benchmarks import recorded
from benchmarks.recorded import Recording, Step


def test_tokens_within_a_burst_are_one_step():
    """Streams that spoke within a fraction of a millisecond did so in one step of the engine."""
    tokens = [(5.0, "a"), (5.0004, "b"), (5.2, "b"), (5.2003, "a")]
    assert recorded.replayed(tokens) == Recording(
        [Step(0.0, (0, 1)), Step(pytest.approx(0.2), (1, 0))], streams=2
    )


def test_a_stream_that_began_later_keeps_its_steps():
    """Copies of it are silent while the first one speaks alone."""
    tokens = [(0.0, "a"), (0.02, "a"), (0.0201, "b"), (0.04, "b")]
    seen = recorded.replayed(tokens)
    assert [step.speakers for step in seen.steps] == [(0,), (0, 1), (1,)]
    assert (seen.tokens, seen.seconds) == (2, pytest.approx(0.04))
    assert seen.interval_ms() == pytest.approx(20.0)


def test_streams_of_different_length_are_refused():
    """512 copies with one number of tokens are asked for."""
    with pytest.raises(ValueError, match=r"not of one length: \[1, 2\]"):
        recorded.replayed([(0.0, "a"), (0.02, "a"), (0.02, "b")])


def test_absent_recordings_are_said_with_what_to_set(tmp_path):
    """The benchmark runs without them."""
    said = recorded.missing(tmp_path)
    assert "no rust-frontend/chunks.csv.gz, chunks.csv.gz in" in said
    assert "BENCH_RECORDING" in said


@pytest.mark.skipif(bool(recorded.missing()), reason=recorded.missing())
@pytest.mark.parametrize(
    ("frontend", "streams", "rate", "peak"), [("rust", 8, 15_397, 24_576), ("python", 12, 10_182, 19_456)]
)
def test_512_copies_speak_as_the_recorded_gpu_did(frontend, streams, rate, peak):
    """16,200 chunks a second sustained and 24,600 at most were recorded; one wave has its own slow start in it."""
    recording = recorded.load(frontend)
    assert (recording.streams, recording.tokens) == (streams, 256)
    assert 512 * recording.tokens / recording.seconds == pytest.approx(rate, abs=1)
    copies = 512 / streams
    busiest = max(
        sum(len(step.speakers) for step in recording.steps if begin.at <= step.at < begin.at + 1)
        for begin in recording.steps
    )
    assert busiest * copies == peak
