from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from driftline.simulate import text


@given(st.text())
def test_tokens_joined_are_the_text_again(written):
    """Nothing is lost or added by the simulated tokenizer, so streamed pieces add up to the reply."""
    assert "".join(text.tokens(written)) == written


@given(count=st.integers(1, 20_000), language=st.sampled_from([*text.LANGUAGES, "code"]), seed=st.integers())
def test_a_passage_has_the_tokens_asked_for(count, language, seed):
    """A prompt of N tokens really has N, so that longer prompts are longer by what was asked."""
    pieces = text.passage(count, language, Random(seed))
    assert len(pieces) == count
    assert text.tokens("".join(pieces)) == pieces


def test_a_token_is_about_four_characters():
    """As byte-pair vocabularies have it, so that characters and tokens are in a usual ratio."""
    pieces = text.passage(10_000, "en", Random(0))
    assert 3.5 < len("".join(pieces)) / len(pieces) < 5


def test_the_language_of_a_passage_is_recognised():
    """The simulated model answers in the language it was asked in."""
    for language in text.LANGUAGES:
        found = Counter(text.language_of("".join(text.passage(30, language, Random(i)))) for i in range(200))
        assert found == {language: 200}


def test_text_of_no_known_language_counts_as_english():
    assert text.language_of("…") == "en"
