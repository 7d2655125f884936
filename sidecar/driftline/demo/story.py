"""What happens when in the demo. No clock, no process: what the sidecar says goes in, the act comes out."""

from __future__ import annotations

from enum import StrEnum

from driftline.demo.picture import Picture

FEATURE = "input_tokens"
"""The one that longer prompts move."""


class Act(StrEnum):
    LEARNING = "learning"
    STEADY = "steady"
    LONGER = "longer prompts"
    INCIDENT = "incident"
    BACK = "back to normal"
    OVER = "over"


class Stuck(Exception):  # noqa: N818  (the story's, not the program's)
    """An act did not come to its end in time."""


class Story:
    """Moves on by what the detector says. Times in seconds, of any clock that only goes forward.

    `steady` is how long the traffic has to look stable before it shifts, `show` how long an incident is left
    open before the traffic goes back, `patience` how long an act may wait for the detector.
    """

    def __init__(
        self, now: float, *, steady: float = 5.0, show: float = 30.0, patience: float = 120.0
    ) -> None:
        self.act = Act.LEARNING
        self.since = now
        self._steady = steady
        self._show = show
        self._patience = patience
        self._seen: set[str] = set()

    @property
    def shifted(self) -> bool:
        """Prompts are to be longer now."""
        return self.act in (Act.LONGER, Act.INCIDENT)

    def next(self, picture: Picture, now: float) -> Act:
        """The act after `picture` was seen at `now`. Raises `Stuck`."""
        if self._done(picture, now):
            self.act = list(Act)[list(Act).index(self.act) + 1]
            self.since = now
            self._seen = {incident.id for incident in picture.incidents}
        elif self.act not in (Act.INCIDENT, Act.OVER) and now - self.since > self._patience:
            raise Stuck(f"{self.act}: the detector did not come to it within {self._patience:g} s")
        return self.act

    def _done(self, picture: Picture, now: float) -> bool:
        watched = picture.feature(FEATURE)
        match self.act:
            case Act.LEARNING:
                return watched is not None and watched.state not in ("learning", "insufficient")
            case Act.STEADY:
                if watched is None or watched.state != "stable":
                    self.since = now
                return now - self.since >= self._steady
            case Act.LONGER:
                return any(i.feature == FEATURE and i.id not in self._seen for i in picture.open)
            case Act.INCIDENT:
                return now - self.since >= self._show
            case Act.BACK:
                return not any(incident.feature == FEATURE for incident in picture.open)
            case Act.OVER:
                return False
