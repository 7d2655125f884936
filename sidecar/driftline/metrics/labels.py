"""A bound on how many values a label may take: what clients write must not decide how much memory is used."""

from __future__ import annotations

OTHER = "__other__"


class LabelBound:
    """The first `most` values of each label keep their name, the rest becomes `__other__`."""

    def __init__(self, most: int = 100) -> None:
        if most < 1:
            raise ValueError(f"a label needs room for at least one value, not {most}")
        self.folded = 0
        """Times a value was replaced."""
        self._most = most
        self._known: dict[str, set[str]] = {}

    def __call__(self, label: str, value: str, *, admit: bool = True) -> str:
        """`value`, or `__other__`. One that is new keeps its name only where `admit` says it may."""
        known = self._known.setdefault(label, set())
        if value in known:
            return value
        if admit and len(known) < self._most:
            known.add(value)
            return value
        self.folded += 1
        return OTHER
