"""The simulated engine: how long a prefill and a decode step take, and what the prefix cache holds.

The times are those of an 8B model on one H100 behind vLLM 0.26, as measured for this project: 25 µs per
prompt token that has to be computed, never under 16 ms; 6.3 ms a decode step alone and .03 ms more for each
request that decodes beside it; 11 ms in the API server. Load makes replies slower; there is no queue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from math import exp
from random import Random

API_SERVER = 0.011
PREFILL_FLOOR = 0.016
PREFILL_PER_TOKEN = 25e-6
STEP = 6.3e-3
STEP_PER_NEIGHBOUR = 0.03e-3
JITTER = 0.12
"""Standard deviation of the logarithm of every time."""

BLOCK = 16
"""Tokens per cache block, vLLM's default."""


class Engine:
    """Times in seconds, multiplied by `time_scale`.

    `tokens_per_step` is above 1 for an engine that decodes speculatively.
    """

    def __init__(
        self,
        *,
        time_scale: float = 1.0,
        tokens_per_step: float = 1.0,
        cache_blocks: int = 30_000,
        seed: int = 0,
    ) -> None:
        self._scale = time_scale
        self._tokens_per_step = tokens_per_step
        self._rng = Random(f"{seed}:engine")
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._cache_blocks = cache_blocks
        self.running = 0

    def prefill(self, tokens: int) -> float:
        """Seconds from the request to its first token, with `tokens` to compute."""
        computing = max(PREFILL_FLOOR, PREFILL_PER_TOKEN * tokens) * (1 + self.running / 256)
        return self._jittered(API_SERVER + computing)

    def decode(self, tokens: int) -> float:
        """Seconds for `tokens` more."""
        steps = tokens / self._tokens_per_step
        return self._jittered(steps * (STEP + STEP_PER_NEIGHBOUR * self.running))

    def _jittered(self, seconds: float) -> float:
        return self._scale * seconds * exp(self._rng.gauss(0, JITTER))

    def cache(self, prompt: Sequence[str]) -> tuple[int, int]:
        """Puts `prompt` into the prefix cache; tokens found there, and tokens put there.

        Only whole blocks count, and the last token is always computed: the engine needs its logits.
        """
        found, matching = 0, True
        blocks = list(_blocks(prompt))
        for block in blocks:
            matching = matching and block in self._cache
            found += matching
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) > self._cache_blocks:
            self._cache.popitem(last=False)
        usable = min(found, (len(prompt) - 1) // BLOCK)
        return usable * BLOCK, (len(blocks) - found) * BLOCK


def _blocks(prompt: Sequence[str]) -> Iterable[int]:
    """A hash per whole block, of the block and all before it."""
    chain = 0
    for end in range(BLOCK, len(prompt) + 1, BLOCK):
        chain = hash((chain, *prompt[end - BLOCK : end]))
        yield chain
