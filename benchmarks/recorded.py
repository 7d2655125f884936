"""The pace of a real GPU: when each of a few recorded streams got its tokens, step by step of the engine.

Read from the chunk times of `vllm-h100` (public data beside the checkout, no part of the project). An engine
computes a token for every running request in one step, so the streams of a step speak within a fraction of a
millisecond and then are silent until the next. Copies of the recorded streams keep the times of those steps:
copies at random phases would fill the silence and erase the burst, which is what is hard on a proxy.
"""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import ROOT

FOLDER = Path(os.environ.get("BENCH_RECORDING", ROOT.parent / "shared" / "data" / "vllm-h100"))

SILENCE = 0.003
"""Seconds without a token that end a burst. In the recordings bursts last 0.1–0.8 ms and steps 6 ms and more."""


class Source(NamedTuple):
    """Which part of the recordings has a frontend's streams at full load."""

    file: str
    phase: str


SOURCES = {
    "rust": Source("rust-frontend/chunks.csv.gz", "rust-512"),
    "python": Source("chunks.csv.gz", "sat-512"),
}
"""By frontend: 512 streams at once in a closed loop, 256 tokens each."""


class Step(NamedTuple):
    at: float
    """Seconds after the first step."""
    speakers: tuple[int, ...]
    """Which of the recorded streams got a token; one that got several is there several times."""


class Recording(NamedTuple):
    steps: list[Step]
    streams: int
    """That were recorded, each with as many tokens as the others."""

    @property
    def seconds(self) -> float:
        return self.steps[-1].at

    @property
    def tokens(self) -> int:
        """Of each stream."""
        return sum(step.speakers.count(0) for step in self.steps)

    def interval_ms(self) -> float:
        """Mean time between two tokens of a stream, over the recorded streams."""
        spans = []
        for stream in range(self.streams):
            times = [step.at for step in self.steps if stream in step.speakers]
            spans.append((times[-1] - times[0]) / (self.tokens - 1) * 1000)
        return sum(spans) / len(spans)


def missing(folder: Path = FOLDER) -> str:
    """What to do where the recordings are not there; empty where they are."""
    absent = [source.file for source in SOURCES.values() if not (folder / source.file).exists()]
    return (
        f"no {', '.join(absent)} in {folder}: set BENCH_RECORDING to the folder vllm-h100" if absent else ""
    )


def load(frontend: str, folder: Path = FOLDER) -> Recording:
    """The recorded streams behind `frontend` (a key of `SOURCES`). Raises `OSError` where they are absent."""
    source = SOURCES[frontend]
    with gzip.open(folder / source.file, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        tokens = [(float(row["t"]), row["id"]) for row in rows if row["phase"] == source.phase]
    if not tokens:
        raise ValueError(f"{folder / source.file} has no row of phase {source.phase}")
    return replayed(tokens)


def replayed(tokens: list[tuple[float, str]]) -> Recording:
    """The steps behind `tokens`: moments in seconds, and the stream that spoke.

    A read of two events counts once: what came together leaves together.
    """
    tokens = sorted(tokens)
    streams = {name: number for number, name in enumerate(dict.fromkeys(name for _, name in tokens))}
    steps: list[Step] = []
    begin = last = tokens[0][0]
    speakers: list[int] = []
    for at, name in tokens:
        if at - last > SILENCE:
            steps.append(Step(begin - tokens[0][0], tuple(speakers)))
            begin, speakers = at, []
        speakers.append(streams[name])
        last = at
    steps.append(Step(begin - tokens[0][0], tuple(speakers)))
    counts = {number: sum(step.speakers.count(number) for step in steps) for number in streams.values()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"the recorded streams are not of one length: {sorted(set(counts.values()))} reads")
    return Recording(steps, len(streams))
