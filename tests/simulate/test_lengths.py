import csv
from random import Random

import pytest

from driftline.simulate import lengths
from tests.simulate.recorded import DATA


@pytest.mark.parametrize(
    ("law", "trace", "column"),
    [
        (lengths.CONVERSATION_PROMPTS, "conv", "ContextTokens"),
        (lengths.CONVERSATION_REPLIES, "conv", "GeneratedTokens"),
        (lengths.CODE_PROMPTS, "code", "ContextTokens"),
        (lengths.CODE_REPLIES, "code", "GeneratedTokens"),
    ],
)
def test_lengths_follow_the_public_trace(law, trace, column):
    """Every tenth of the recorded lengths, the outermost excepted, is met within a third."""
    file = DATA / "azure-llm" / f"{trace}.csv"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    with file.open() as rows:
        recorded = sorted(int(row[column]) for row in csv.DictReader(rows))
    rng = Random(0)
    drawn = sorted(law.draw(rng) for _ in recorded)
    for tenth in range(1, 10):
        at = len(recorded) * tenth // 10
        assert drawn[at] == pytest.approx(recorded[at], rel=0.34)
    assert recorded[0] <= drawn[0]
    assert drawn[-1] <= recorded[-1]


def test_the_same_seed_draws_the_same_lengths():
    drawn = [lengths.CONVERSATION_PROMPTS.draw(Random(7)) for _ in range(3)]
    assert drawn == [1175, 1175, 1175]
