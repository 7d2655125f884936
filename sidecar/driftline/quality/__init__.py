"""Quality signals: what can be told of a reply from the call alone.

Adding a signal is a class with a `name` and a `score`, a line in `SIGNALS` and a key in `QualitySettings`.
"""

from __future__ import annotations

from typing import Protocol

from driftline.call import Call
from driftline.quality.empty import EmptySignal
from driftline.quality.json_invalid import JsonInvalidSignal
from driftline.quality.refusal import RefusalSignal
from driftline.quality.settings import QualitySettings
from driftline.quality.truncated import TruncatedSignal


class Signal(Protocol):
    name: str

    def score(self, call: Call) -> str | bool | float | None:
        """None: the signal does not apply to this call."""


SIGNALS: dict[str, type[Signal]] = {
    signal.name: signal for signal in (RefusalSignal, JsonInvalidSignal, TruncatedSignal, EmptySignal)
}
"""By name, which is also the key that switches one off."""


class Quality:
    """Scores every call by the signals that are switched on."""

    def __init__(self, settings: QualitySettings | None = None) -> None:
        settings = settings or QualitySettings()
        self._signals = [signal() for name, signal in SIGNALS.items() if getattr(settings, name)]

    def observe(self, call: Call) -> None:
        """Put into `call.signals` the value of each signal that applies."""
        for signal in self._signals:
            value = signal.score(call)
            if value is not None:
                call.signals[signal.name] = value


def adverse(value: str | bool | float) -> bool | None:
    """Whether a signal's value speaks against the reply. None: it is to be counted apart.

    >>> adverse("full"), adverse("none"), adverse("fenced"), adverse("cut"), adverse(True)
    (True, False, True, None, True)
    """
    if isinstance(value, str):
        return None if value == "cut" else value not in ("none", "valid")
    return bool(value)
