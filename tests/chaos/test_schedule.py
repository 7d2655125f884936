"""What is done to whom, and when."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from chaos.ledger import Step
from chaos.schedule import MORTAL, schedule


def test_a_seed_is_a_schedule():
    assert schedule(7, 60) == schedule(7, 60) != schedule(8, 60)


@pytest.mark.parametrize("seed", range(20))
def test_a_short_run_too_has_every_kind(seed):
    """Each of them once at least, in some order."""
    steps = schedule(seed, 20)
    assert {step.do for step in steps} == {*get_args(get_type_hints(Step)["do"])}
    assert {step.to for step in steps if step.do == "kill"} == {*MORTAL}


@pytest.mark.parametrize("seconds", [20, 600])
def test_a_run_ends_with_everything_up(seconds):
    """Disturbances are over before the traffic is, and what was killed or paused has its way back among them."""
    for seed in range(20):
        steps = schedule(seed, seconds)
        assert steps == sorted(steps, key=lambda step: step.at)
        assert steps[0].at >= 1
        assert steps[-1].at <= seconds - 2
        for number, step in enumerate(steps):
            later = {after.do for after in steps[number:] if after.to == step.to}
            if step.do == "kill" and step.to == "upstream":
                assert "start" in later
            if step.do == "pause":
                assert later & {"resume", "kill"}


def test_a_long_run_has_a_disturbance_every_four_seconds():
    kills = [step for step in schedule(7, 600) if step.do == "kill"]
    assert len(kills) > 100
