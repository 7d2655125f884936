"""From what was read to figures."""

import msgspec
import pytest

from benchmarks import judge, wire
from benchmarks.client import Answer, Decoded, Read, Target

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
MS = 1_000_000


def answer(number, sent, arrived, *, first=None):
    """Stream `number`, its tokens sent and arrived at these milliseconds, asked for at 0."""
    said = wire.chat(number, len(sent), False)
    reads = [Read((first or arrived[0]) * MS, HEAD + wire.chunk(said.opening))]
    for at, moment in zip(arrived[:-1], sent[:-1], strict=True):
        reads.append(Read(at * MS, wire.chunk(said.delta % (moment * MS))))
    ending = b"".join(wire.chunk(event) for event in said.ending) + b"0\r\n\r\n"
    reads.append(Read(arrived[-1] * MS, wire.chunk(said.last % (sent[-1] * MS)) + ending))
    return Answer(0, reads)


def judged(*answers, tokens):
    numbered = list(enumerate(answers))
    return judge.streams(numbered, judge.exact(wire.chat, tokens), Target("127.0.0.1:1"), asked=len(numbered))


def test_a_token_is_as_late_as_its_last_byte():
    """From the moment the upstream wrote into it to the arrival of the read that completes it."""
    seen = judged(answer(0, [10, 20, 30], [11, 22, 33], first=5), tokens=3)
    assert (seen.complete, seen.tokens, seen.faults) == (1, 3, {})
    assert seen.first_token.p50 == pytest.approx(5)
    assert seen.token.p50 == pytest.approx(2)
    assert seen.interval_ms == pytest.approx(10)
    assert seen.time_per_token.p50 == pytest.approx(11)


def test_a_token_that_comes_in_two_reads_is_complete_with_the_second():
    """A proxy that cuts events in half gains nothing by it."""
    whole = answer(0, [10, 20], [11, 22])
    head, token, last = whole.reads
    halves = [Read(11 * MS, token.data[:50]), Read(19 * MS, token.data[50:])]
    seen = judged(Answer(0, [head, *halves, last]), tokens=2)
    assert (seen.token.p99, seen.reads_per_token) == (pytest.approx(8.93), 2.0)


def test_a_step_of_forty_milliseconds_is_counted():
    """What a delayed acknowledgement does to a token or to the first event; nothing else is one."""
    seen = judged(answer(0, [10, 20, 30], [50, 60, 76], first=40), tokens=3)
    assert seen.stalls == 3
    assert judged(answer(0, [10, 20, 30], [44, 66, 90], first=30), tokens=3).stalls == 0


def test_bursts_are_told_from_the_silence_between():
    """Three writes within a millisecond, 20 ms of nothing, and again."""
    seen = judged(*[answer(n, [10 + n, 30 + n], [15, 40]) for n in range(3)], tokens=2)
    assert seen.bursts.width.p50 == pytest.approx(2)
    assert seen.bursts.pause is not None
    assert seen.bursts.pause.p50 == pytest.approx(20)
    assert seen.tokens_in_peak_second == 6


def test_one_burst_has_no_pause():
    """And the result can still be written as JSON and read again."""
    seen = judged(answer(0, [10, 11], [12, 13]), tokens=2)
    assert seen.bursts.pause is None
    assert msgspec.json.decode(msgspec.json.encode(seen), type=judge.StreamResult) == seen


def test_streams_under_way_at_once_are_counted_from_request_to_end():
    """Two overlap; the third begins when both are over."""
    assert judge.most_at_once([(0, 10), (5, 20), (20, 30)]) == 2


def test_an_answer_without_its_framing_says_how_far_each_read_went():
    """Sizes are of the body; the head's read has none of it."""
    reads = [Read(1, HEAD), Read(2, b"3\r\nabc\r\n2\r\n"), Read(3, b"de\r\n0\r\n\r\n")]
    assert Decoded.of(Answer(0, reads)) == Decoded(200, b"abcde", [0, 3, 5])
