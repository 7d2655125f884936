import io
from collections import deque

from rich.console import Console

from driftline.demo.picture import Feature, Incident, Picture, Statistic, Totals
from driftline.demo.story import Act
from driftline.demo.view import Facts, LiveView, PlainView, sparkline

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENTENCE = "input_tokens of simulated-8b moved: 41.0% of 480 calls were above 1448 tokens."


def picture(state="stable", psi=0.021, window_end=1.0, **incident):
    incidents = [
        Incident(
            id="a",
            feature="input_tokens",
            severity="ticket",
            opened_at=1_795_000_000,
            calibrated=False,
            explanation=SENTENCE,
            trace_ids=[TRACE],
            **incident,
        )
    ]
    return Picture(
        features=[
            Feature(
                name="input_tokens",
                model="simulated-8b",
                state=state,
                samples=480,
                window_end=window_end,
                psi=psi,
                tests={"psi": Statistic(psi, 0.2), "ks": Statistic(0.03, 0.11)},
            ),
            Feature(name="json_invalid", model="simulated-8b", state="learning", progress=0.5),
        ],
        incidents=incidents if incident else [],
        totals=Totals(
            requests=1_234, calls=1_200, input_tokens=5_000_000, output_tokens=70_000, cost_usd=0.81
        ),
    )


def facts():
    return Facts(data="http://127.0.0.1:8080", admin="http://127.0.0.1:9464", rate=80, factor=2)


def plain(*shown):
    """The lines for the pictures shown, one look after the other."""
    out = io.StringIO()
    known = facts()
    view = PlainView(known, Console(file=out, highlight=False, soft_wrap=True))
    for seconds, act, seen in shown:
        known.see(seen)
        view.show(act, seconds)
    return out.getvalue().splitlines()


def test_plain_lines_tell_what_changes_and_nothing_twice():
    """In a log, a state or an act is told when it changes; figures come every five seconds."""
    lines = plain(
        (1, Act.STEADY, picture()),
        (2, Act.STEADY, picture()),
        (3, Act.STEADY, picture(state="drifting", psi=0.9)),
        (8, Act.STEADY, picture(state="drifting", psi=0.9)),
    )
    assert [line.split("s  ", 1)[1].split(":")[0] for line in lines] == [
        "steady",
        "input_tokens is stable",
        "json_invalid is learning",
        "input_tokens is drifting",
        "1,234 requests relayed   5,000,000 tokens in   70,000 out   $0.81   1,200 traced",
        "input_tokens is drifting",
    ]
    assert lines[3] == (
        "    3.0 s  input_tokens is drifting: PSI 0.900 (0.200 allowed), KS 0.030 (0.110 allowed), "
        "480 calls in the window"
    )


def test_plain_lines_tell_an_incident_why_it_opened_and_which_calls():
    """Once when it opens, with a link to each call, and once when it closes."""
    lines = plain(
        (1, Act.INCIDENT, picture(closed_at=None)),
        (2, Act.INCIDENT, picture(closed_at=None)),
        (3, Act.OVER, picture(closed_at=2.0, closed_because="the traffic is back to its reference")),
    )
    assert sum("incident: ticket on input_tokens, opened" in line for line in lines) == 1
    assert sum(line.strip() == SENTENCE for line in lines) == 1
    assert sum(line.strip() == f"http://127.0.0.1:9464/api/v1/traces/{TRACE}" for line in lines) == 1
    assert lines[-1] == "    3.0 s  incident on input_tokens closed: the traffic is back to its reference"


def test_an_incident_that_opened_and_closed_between_two_looks_is_told_whole():
    lines = plain((4, Act.STEADY, picture(closed_at=8.0, closed_because="unpinned")))
    told = [line.split("s  ", 1)[1] for line in lines if "incident" in line]
    assert [line.partition(",")[0] for line in told] == [
        "incident: ticket on input_tokens",
        "incident on input_tokens closed: unpinned",
    ]


def test_the_live_picture_holds_the_same_facts():
    """At 100 columns and 30 lines: console, totals, features, what goes on, the incident and its calls."""
    known = facts()
    known.see(picture(state="drifting", psi=0.9, closed_at=None))
    out = io.StringIO()
    console = Console(file=out, width=100, height=30, force_terminal=False)
    console.print(LiveView(known).render(Act.INCIDENT, 31))
    shown = out.getvalue()
    for fact in [
        "http://127.0.0.1:9464/",
        "1,234 requests relayed",
        "input_tokens",
        "drifting",
        "0.900",
        "0.200",
        "learning 50%",
        "The incident is open.",
        SENTENCE,
        f"http://127.0.0.1:9464/api/v1/traces/{TRACE}",
    ]:
        assert fact in shown
    assert len(shown.splitlines()) <= 30


def test_a_window_is_drawn_once_however_often_it_is_looked_at():
    """The sparkline has a bar per window, not per look."""
    known = facts()
    for end, psi in [(1.0, 0.1), (1.0, 0.1), (2.0, 0.3)]:
        known.see(picture(psi=psi, window_end=end))
    assert list(known.history["input_tokens"]) == [0.1, 0.3]


def test_bars_are_full_at_twice_what_is_allowed_and_red_above_it():
    text = sparkline(deque([0.0, 0.2, 0.25, 0.4, 9.0]), 0.2)
    assert text.plain == "▁▅▆██"
    assert [span.style for span in text.spans] == ["green", "green", "red", "red", "red"]
