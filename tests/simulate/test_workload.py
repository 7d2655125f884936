from collections import Counter
from itertools import takewhile
from random import Random

import pytest

from driftline.simulate import text
from driftline.simulate.workload import PROFILES, SHIFTS, Workload, arrivals, known_shift


def requests(count, *shifts, profile="mixed", **more):
    workload = Workload(PROFILES[profile], model="m", **more)
    workload.shifts = [known_shift(word) for word in shifts]
    return [workload.next() for _ in range(count)]


def prompt(request):
    messages = request.body.get("messages", [{"content": request.body.get("prompt")}])
    return "".join(message["content"] for message in messages)


def prompt_tokens(requests):
    return sum(len(text.tokens(prompt(request))) for request in requests)


def without(request, *keys):
    """The request, without its texts."""
    return {key: value for key, value in request.body.items() if key not in ("messages", "prompt", *keys)}


def test_the_same_seed_asks_the_same():
    assert requests(50, seed=4) == requests(50, seed=4)
    assert requests(50, seed=4) != requests(50, seed=5)


def test_longer_prompts_are_longer_by_the_factor():
    """In total; and nothing else about the requests changes."""
    before, after = requests(300), requests(300, "longer_prompts=2")
    assert prompt_tokens(after) / prompt_tokens(before) == pytest.approx(2, rel=0.02)
    assert [without(request) for request in after] == [without(request) for request in before]
    assert [request.headers for request in after] == [request.headers for request in before]


def test_prompts_have_the_profile_s_length():
    """The median of the public conversation trace is 1,020 tokens."""
    lengths = sorted(prompt_tokens([request]) for request in requests(1_000, profile="chat"))
    assert lengths[500] == pytest.approx(1_020, rel=0.1)


@pytest.mark.parametrize(
    ("word", "steering", "share"), [("refusals=0.5", "refuse", 0.5), ("errors=0.2", "fail", 0.2)]
)
def test_a_shift_steers_its_share_of_the_requests(word, steering, share):
    """Of those it can come over, and no other."""
    found = requests(2_000, word, profile="chat")
    assert sum(r.headers.get("x-simulate") == steering for r in found) == pytest.approx(
        2_000 * share, rel=0.1
    )


def test_json_is_broken_only_where_it_was_asked_for():
    for request in requests(500, "broken_json=1"):
        asks = "response_format" in request.body or "tools" in request.body
        assert (request.headers.get("x-simulate") == "break-json") == asks


def test_steering_is_also_said_in_words():
    """So that a real model, which does not read our header, is asked for it as well."""
    (request,) = requests(1, "refusals=1", profile="chat")
    assert "Decline to answer this" in request.body["messages"][-1]["content"]


def test_another_language_is_in_the_prompt_itself():
    """Half of the conversations; the other half stays English."""
    found = Counter(text.language_of(prompt(r)) for r in requests(1_000, "language=0.5", profile="chat"))
    assert found["en"] == pytest.approx(500, abs=60)
    assert found["es"] + found["de"] == 1_000 - found["en"]


def test_truncation_lowers_the_limit_of_its_share():
    found = Counter(
        request.body["max_tokens"] for request in requests(1_000, "truncated=0.3", profile="chat")
    )
    assert found[48] == pytest.approx(300, abs=50)


def test_a_short_context_shrinks_every_length():
    """The shape stays, so that a shift shows on a small model as well."""
    small = requests(200, scale=0.125, profile="chat")
    assert prompt_tokens(small) / prompt_tokens(requests(200, profile="chat")) == pytest.approx(
        0.125, rel=0.05
    )
    assert {request.body["max_tokens"] for request in small} == {32, 128}


def test_replies_can_be_bounded():
    assert {request.body["max_tokens"] for request in requests(100, most_tokens=7)} == {7}


def test_requests_carry_team_and_session():
    """By the headers the sidecar attributes by; most of the traffic is one team's."""
    teams = Counter(request.headers["x-driftline-team"] for request in requests(1_000))
    assert [team for team, _ in teams.most_common()] == ["support", "search", "billing", "research"]
    assert all(request.headers["x-driftline-session"] for request in requests(10))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("longer", "'longer' is not a shift; there are " + ", ".join(SHIFTS)),
        (
            "refusals=often",
            "'often' is not a size for refusals; it is a number (this share of chats is declined)",
        ),
        ("refusals=2", "refusals=2: its size is above 0 and at most 1 (this share of chats is declined)"),
        (
            "longer_prompts=0",
            "longer_prompts=0: its size is above 0 and at most 100 (prompts longer by this factor)",
        ),
        ("errors=nan", "errors=nan: its size is above 0 and at most 1 (this share of requests fails)"),
    ],
)
def test_an_unknown_shift_says_what_there_is(word, says):
    with pytest.raises(ValueError) as error:
        known_shift(word)
    assert str(error.value) == says


def within(times, start, end):
    return sum(start <= time < end for time in times)


def test_arrivals_keep_their_rate():
    """Poisson: as many as asked on average, with the spread of independent clients."""
    times = list(takewhile(lambda time: time < 1_000, arrivals(20, Random(0))))
    counts = list(Counter(map(int, times)).values())
    mean = sum(counts) / 1_000
    assert mean == pytest.approx(20, rel=0.03)
    assert sum((count - mean) ** 2 for count in counts) / 1_000 == pytest.approx(20, rel=0.15)


def test_a_day_has_a_busy_and_a_quiet_half():
    """Half more and half less around the same average."""
    times = list(takewhile(lambda time: time < 400, arrivals(20, Random(0), day=400)))
    assert within(times, 0, 200) / within(times, 200, 400) == pytest.approx(
        (1 + 1 / 3.1416) / (1 - 1 / 3.1416), rel=0.1
    )
    assert len(times) == pytest.approx(8_000, rel=0.05)
