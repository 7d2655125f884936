"""How long prompts and replies are: mixtures of log-normal laws.

The parameters summarise two public hours of production traffic, the conversation and the code service of
AzureLLMInferenceTrace 2023 (Azure/AzurePublicDataset, CC-BY-4.0), fitted by expectation-maximisation on the
logarithms. One log-normal does not do: half of the conversations have nearly the same prompt length.
"""

from __future__ import annotations

from math import exp, log
from random import Random
from typing import NamedTuple

import msgspec


class Component(NamedTuple):
    weight: float
    median: float
    """Tokens."""
    sigma: float
    """Standard deviation of the logarithm."""


class Lengths(msgspec.Struct, frozen=True):
    """A law of lengths in tokens, bounded on both sides as the recorded ones were."""

    components: tuple[Component, ...]
    lowest: int
    highest: int

    def draw(self, rng: Random) -> int:
        """One length.

        >>> CONVERSATION_PROMPTS.draw(Random(7))
        1175
        """
        (component,) = rng.choices(self.components, [c.weight for c in self.components])
        length = exp(rng.gauss(log(component.median), component.sigma))
        return max(self.lowest, min(self.highest, round(length)))


CONVERSATION_PROMPTS = Lengths(
    (Component(0.60, 504, 1.0), Component(0.32, 1083, 0.08), Component(0.08, 4081, 0.08)), 29, 14_050
)
CONVERSATION_REPLIES = Lengths(
    (Component(0.24, 104, 1.03), Component(0.46, 98, 0.38), Component(0.30, 409, 0.08)), 16, 1_000
)
CODE_PROMPTS = Lengths(
    (Component(0.32, 254, 1.28), Component(0.61, 1_902, 0.62), Component(0.07, 7_115, 0.08)), 17, 7_437
)
CODE_REPLIES = Lengths((Component(0.66, 11, 0.38), Component(0.34, 37, 0.9)), 6, 1_899)
