import pytest

from driftline.demo.picture import Feature, Incident, Picture
from driftline.demo.story import Act, Story, Stuck


def seen(state, *incidents):
    return Picture(features=[Feature(name="input_tokens", model="m", state=state)], incidents=list(incidents))


def incident(key="a", feature="input_tokens", closed_at=None):
    return Incident(id=key, feature=feature, severity="ticket", opened_at=10, closed_at=closed_at)


def acts(story, *looks):
    return [story.next(picture, now) for now, picture in looks]


def shifted():
    """A story at 10 s, when prompts have just become longer."""
    story = Story(0, steady=5, show=20)
    acts(story, (1, seen("stable")), (10, seen("stable")))
    assert story.act == Act.LONGER
    return story


def test_the_traffic_is_steady_until_the_detector_has_learned():
    """Nothing shifts before there is anything to compare with."""
    story = Story(0)
    found = acts(
        story, (1, Picture()), (20, seen("learning")), (21, seen("insufficient")), (22, seen("stable"))
    )
    assert found == [Act.LEARNING, Act.LEARNING, Act.LEARNING, Act.STEADY]
    assert not story.shifted


def test_prompts_become_longer_after_a_stable_spell():
    """One that a false alarm begins anew."""
    story = Story(0, steady=5)
    looks = [(1, "stable"), (4, "stable"), (5, "drifting"), (9, "stable"), (10, "stable")]
    assert acts(story, *((now, seen(state)) for now, state in looks))[-1] == Act.LONGER
    story = Story(0, steady=5)
    looks = [(1, "stable"), (4, "stable"), (5, "drifting"), (9, "stable")]
    assert acts(story, *((now, seen(state)) for now, state in looks))[-1] == Act.STEADY


def test_an_incident_on_prompt_length_is_what_is_waited_for():
    """Another feature's incident, or one that was there before the shift, is not it."""
    story = Story(0, steady=5)
    old = incident("old")
    acts(story, (1, seen("stable", old)), (7, seen("stable", old)))
    found = acts(
        story,
        (8, seen("drifting", old)),
        (9, seen("drifting", old, incident("b", feature="ttft"))),
        (10, seen("drifting", old, incident("c"))),
    )
    assert found == [Act.LONGER, Act.LONGER, Act.INCIDENT]
    assert story.shifted


def test_the_traffic_goes_back_when_the_incident_has_been_shown():
    """And the story is over when the detector has closed it."""
    story = shifted()
    found = acts(
        story,
        (11, seen("drifting", incident())),
        (30, seen("drifting", incident())),
        (31, seen("drifting", incident())),
        (40, seen("stable", incident())),
        (41, seen("stable", incident(closed_at=41))),
        (99_999, seen("stable")),
    )
    assert found == [Act.INCIDENT, Act.INCIDENT, Act.BACK, Act.BACK, Act.OVER, Act.OVER]
    assert not story.shifted


def test_a_detector_that_says_nothing_ends_the_story():
    """With the act it is stuck in: in CI, a demo that cannot go on fails."""
    story = Story(0, patience=60)
    story.next(seen("learning"), 60)
    with pytest.raises(Stuck) as error:
        story.next(seen("learning"), 61)
    assert str(error.value) == "learning: the detector did not come to it within 60 s"
