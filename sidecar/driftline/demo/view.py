"""What the terminal shows: a live picture on a terminal, plain lines elsewhere. The same facts in both."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from driftline.demo.picture import Feature, Incident, Picture
from driftline.demo.story import FEATURE, Act

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 40
_MOST_INCIDENTS = 4
_TESTS = {"psi": "PSI", "ks": "KS", "chi2": "chi-squared", "cusum": "log e-value"}
_STYLES = {"learning": "cyan", "stable": "green", "drifting": "bold red", "insufficient": "yellow"}


class Facts:
    """All that a view tells: fixed at the start, or the last picture with a short memory of PSI."""

    def __init__(self, *, data: str, admin: str, rate: float, factor: float) -> None:
        self.data = data
        self.admin = admin
        self.rate = rate
        self.factor = factor
        self.picture = Picture()
        self.history: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_HISTORY))
        self._ends: dict[str, float] = {}

    def see(self, picture: Picture) -> None:
        self.picture = picture
        for feature in picture.features:
            if feature.psi is not None and feature.window_end != self._ends.get(feature.name):
                self._ends[feature.name] = feature.window_end
                self.history[feature.name].append(feature.psi)

    def by_interest(self) -> list[Incident | None]:
        """Incidents, the one that the demo is about first, then open ones, then new ones. Never empty."""

        def interest(incident: Incident) -> tuple[bool, bool, float]:
            return incident.feature == FEATURE, incident.closed_at is None, incident.opened_at

        return [*sorted(self.picture.incidents, key=interest, reverse=True)[:_MOST_INCIDENTS]] or [None]

    def trace_url(self, trace_id: str) -> str:
        return f"{self.admin}/api/v1/traces/{trace_id}"

    def narration(self, act: Act) -> str:
        """What is going on, for someone who sees it for the first time."""
        learned = self.picture.progress
        return {
            Act.LEARNING: (
                f"Steady traffic, {self.rate:g} requests a second. The detector learns what is normal: "
                f"{learned:.0%} of its reference."
            ),
            Act.STEADY: (
                "The reference is pinned. The last few hundred calls are compared with it again and again: "
                "PSI and KS stay below what is allowed."
            ),
            Act.LONGER: (
                f"From now on prompts are {self.factor:g} times as long, as after a change in an application. "
                f"Watch {FEATURE}."
            ),
            Act.INCIDENT: (
                "The incident is open. Below: why, and calls to look at; their links and the console work in a "
                "browser. Soon the traffic goes back to what it was."
            ),
            Act.BACK: "Prompts are as long as before. The incident closes after a run of clean windows.",
            Act.OVER: (
                "The incident is closed. Steady traffic goes on until Ctrl-C. From a second terminal, try another "
                f"shift:\n  driftline traffic --target {self.data} --rate 20 --shift refusals=1"
            ),
        }[act]

    def totals(self) -> str:
        totals = self.picture.totals
        return (
            f"{totals.requests:,} requests relayed   {totals.input_tokens:,} tokens in   "
            f"{totals.output_tokens:,} out   ${totals.cost_usd:,.2f}   {totals.calls:,} traced"
        )


def one_line(incident: Incident) -> str:
    state = "open" if incident.closed_at is None else f"closed: {incident.closed_because}"
    return f"{incident.severity} on {incident.feature}, {state}"


def facts_of(incident: Incident, facts: Facts) -> list[str]:
    """An incident in lines: when and what, why, which calls."""
    at = datetime.fromtimestamp(incident.opened_at).astimezone().strftime("%H:%M:%S")
    lines = [f"{incident.severity} on {incident.feature}, opened {at}", incident.explanation]
    if incident.severity == "ticket" and not incident.calibrated:
        lines.append(
            "(a ticket, not a page: a reference learned in seconds holds too few windows to calibrate)"
        )
    return [*lines, *(facts.trace_url(trace_id) for trace_id in incident.trace_ids)]


class LiveView:
    """One picture that is drawn again and again."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def render(self, act: Act, seconds: float) -> RenderableType:
        facts = self._facts
        head = Text.assemble(
            ("driftline demo ", "bold"), f"{seconds:5.0f} s   console ", (facts.admin + "/", "bold underline")
        )
        parts: list[RenderableType] = [
            head,
            Text(facts.totals(), style="dim"),
            self._table(),
            Panel(facts.narration(act), title=act.value, title_align="left", border_style="cyan"),
        ]
        first, *others = facts.by_interest()
        if first is not None:
            parts.append(self._incident(first))
        parts += [
            Text(f" also {one_line(incident)}", style="dim") for incident in others if incident is not None
        ]
        return Group(*parts)

    def _table(self) -> Table:
        table = Table(expand=True, box=None, padding=(0, 1))
        for name in ("feature", "state"):
            table.add_column(name, no_wrap=True)
        table.add_column("PSI, window by window", no_wrap=True, ratio=1)
        for name in ("PSI", "allowed", "KS, log e", "allowed", "calls"):
            table.add_column(name, justify="right", no_wrap=True)
        for feature in self._facts.picture.features:
            state = feature.state if feature.progress >= 1 else f"{feature.state} {feature.progress:.0%}"
            psi, second = feature.tests.get("psi"), feature.tests.get("ks") or feature.tests.get("cusum")
            table.add_row(
                feature.name,
                Text(state, style=_STYLES.get(feature.state, "")),
                sparkline(self._facts.history[feature.name], psi.threshold if psi else None),
                _figure(feature.psi),
                _figure(psi.threshold if psi else None),
                _figure(second.value if second else None),
                _figure(second.threshold if second else None),
                f"{feature.samples:,}",
            )
        return table

    def _incident(self, incident: Incident) -> Panel:
        lines = facts_of(incident, self._facts)
        body = Text("\n").join(
            Text(line, style=f"link {line}" if line.startswith("http") else "") for line in lines
        )
        style = "red" if incident.closed_at is None else "green"
        title = "incident" if incident.closed_at is None else f"incident, closed: {incident.closed_because}"
        return Panel(body, title=title, title_align="left", border_style=style)


def sparkline(values: deque[float], allowed: float | None) -> Text:
    """Bars whose full height is twice what is allowed; red where they are above it."""
    text = Text()
    full = 2 * allowed if allowed else max([*values, 0.1])
    for value in values:
        bar = _BARS[min(len(_BARS) - 1, int(value / full * len(_BARS)))]
        text.append(bar, style="red" if allowed is not None and value > allowed else "green")
    return text


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


class PlainView:
    """A line for everything that changes, and one with all figures now and then."""

    every = 5.0
    """Seconds between lines when nothing changes."""

    def __init__(self, facts: Facts, console: Console) -> None:
        self._facts = facts
        self._console = console
        self._act: Act | None = None
        self._states: dict[str, str] = {}
        self._incidents: dict[str, bool] = {}
        self._last = 0.0

    def show(self, act: Act, seconds: float) -> None:
        if act != self._act:
            self._act = act
            self._say(seconds, f"{act.value}: {self._facts.narration(act)}")
        for feature in self._facts.picture.features:
            if self._states.get(feature.name) != feature.state:
                self._states[feature.name] = feature.state
                self._say(seconds, described(feature))
        for incident in self._facts.picture.incidents:
            self._note(incident, seconds)
        if seconds - self._last >= self.every:
            self._last = seconds
            self._say(seconds, self._facts.totals())
            watched = self._facts.picture.feature(FEATURE)
            if watched is not None:
                self._say(seconds, described(watched))

    def _note(self, incident: Incident, seconds: float) -> None:
        is_open = incident.closed_at is None
        if self._incidents.get(incident.id) == is_open:
            return
        if incident.id not in self._incidents:
            first, *rest = facts_of(incident, self._facts)
            self._say(seconds, f"incident: {first}")
            for line in rest:
                self._console.print(f"           {line}")
        if not is_open:
            self._say(seconds, f"incident on {incident.feature} closed: {incident.closed_because}")
        self._incidents[incident.id] = is_open

    def _say(self, seconds: float, text: str) -> None:
        self._console.print(f"{seconds:7.1f} s  {text}")


def described(feature: Feature) -> str:
    """A feature in one line.

    >>> described(Feature(name="ttft", model="m", state="learning", progress=0.4))
    'ttft is learning: 40%'
    """
    if feature.state == "learning":
        return f"{feature.name} is learning: {feature.progress:.0%}"
    figures = [
        f"{_TESTS.get(name, name)} {test.value:.3f} ({test.threshold:.3f} allowed)"
        for name, test in feature.tests.items()
    ]
    return f"{feature.name} is {feature.state}: {', '.join([*figures, f'{feature.samples:,} calls in the window'])}"
