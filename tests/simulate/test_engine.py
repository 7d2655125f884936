from statistics import median

import pytest

from driftline.simulate.engine import Engine


def test_longer_prompts_wait_longer_for_their_first_token():
    """25 µs a token that has to be computed, as measured on an H100; short ones cost the same."""
    engine = Engine()
    waits = [median(engine.prefill(tokens) for _ in range(500)) for tokens in (16, 512, 2_048, 8_192)]
    assert waits == pytest.approx([0.027, 0.027, 0.062, 0.216], rel=0.05)


def test_more_requests_at_once_slow_every_token():
    engine = Engine()
    alone = median(engine.decode(1) for _ in range(500))
    engine.running = 250
    assert (alone, median(engine.decode(1) for _ in range(500))) == pytest.approx((0.0063, 0.0138), rel=0.05)


def test_time_scale_multiplies_every_wait():
    """Zero of them answers at once; the same seed waits the same."""
    assert (Engine(time_scale=0).prefill(9_000), Engine(time_scale=0).decode(100)) == (0, 0)
    assert Engine(time_scale=3).decode(7) == pytest.approx(3 * Engine().decode(7))


def test_a_shared_beginning_is_found_in_the_cache():
    """Whole blocks of 16 tokens up to the first difference."""
    engine = Engine()
    assert engine.cache(["same"] * 40 + ["one"] * 10) == (0, 48)
    assert engine.cache(["same"] * 40 + ["two"] * 10) == (32, 16)


def test_the_last_token_is_always_computed():
    """The engine needs its logits, so a prompt of whole blocks is never found whole."""
    engine = Engine()
    engine.cache(["same"] * 32)
    assert engine.cache(["same"] * 32) == (16, 0)


def test_the_cache_forgets_what_was_used_longest_ago():
    engine = Engine(cache_blocks=2)
    engine.cache(["old"] * 17)
    engine.cache(["new"] * 33)
    assert engine.cache(["new"] * 33) == (32, 0)
    assert engine.cache(["old"] * 17) == (0, 16)
