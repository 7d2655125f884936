"""Recorded traffic as observations: CSV with a header, or one JSON object a line."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NoReturn

import msgspec

from driftline.drift.features import FEATURES, Feature
from driftline.drift.observation import Observation, Value

TIMESTAMP = "timestamp"
LABELS = ("model", "variant", "tenant", "trace_id")
UNNAMED = "recording"
"""The model of a recording that does not say."""
FUTURE = 86400.0
"""Seconds by which a recording may be ahead of the clock of who reads it."""

_TRUTHS: dict[Any, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MISSING = ("null", "none", "nan", "na")


class RecordingError(ValueError):
    """A recording cannot be read. The message names the file, the line, the column, the value and the fix."""


class Recording:
    """Iterates over the observations of `lines`.

    `columns` maps our names (features, `timestamp`, `model`, `variant`, `tenant`, `trace_id`) to those of the file
    where they differ. An empty cell or an absent key means that the feature does not apply; `null` that the value is
    missing. Timestamps are seconds since the epoch or ISO 8601 (UTC unless they say otherwise), ascending, and not
    after `now`.
    """

    def __init__(
        self,
        lines: Iterable[str],
        name: str,
        *,
        features: Iterable[str],
        now: float,
        columns: Mapping[str, str] | None = None,
        model: str = UNNAMED,
        variant: str = "",
    ) -> None:
        self._lines = lines
        self._name = name
        self._features = [FEATURES[feature] for feature in features]
        self._now = now
        self._columns = dict(columns or {})
        self._default = {"model": model, "variant": variant, "tenant": "", "trace_id": ""}
        self._line = 0
        self._last = -math.inf
        self.rows = 0
        self.first = math.nan
        """Timestamp of the first row."""
        known = {TIMESTAMP, *LABELS, *FEATURES}
        for ours in self._columns:
            if ours not in known:
                near = difflib.get_close_matches(ours, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
                raise RecordingError(f"{ours!r} is no column of ours; {hint}")

    @property
    def last(self) -> float:
        """Timestamp of the last row read."""
        return self._last

    def __iter__(self) -> Iterator[Observation]:
        lines = iter(self._lines)
        first = next(lines, "")
        if not first.strip():
            raise RecordingError(f"{self._name}: the file is empty; it needs a header line or JSON objects")
        lines = chain([first], lines)
        found: set[str] = set()
        for row in self._json_rows(lines) if first.lstrip().startswith("{") else self._csv_rows(lines):
            observation = self._observation(row)
            found |= observation.values.keys()
            yield observation
        if not self.rows:
            raise RecordingError(f"{self._name}: the file has a header and no rows")
        if not found:
            raise RecordingError(
                f"{self._name}: no row has a value for any of {', '.join(f.name for f in self._features)}; "
                "name the column with --column FEATURE=COLUMN"
            )

    # Rows

    def _csv_rows(self, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        reader = csv.reader(lines, strict=True)
        header = [name.strip().removeprefix("\ufeff") for name in next(reader)]
        self._line = 1
        self._check_header(header)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._line = reader.line_num
                self._fail(f"not CSV: {error}")
            self._line = reader.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                self._fail(
                    f"{len(cells)} cells under a header of {len(header)}; quote cells that hold commas"
                )
            yield {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}

    def _json_rows(self, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        for self._line, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                self._fail(f"not JSON: {error}; each line must be one object")
            if not isinstance(row, dict):
                self._fail(f"a JSON {type(row).__name__}, not an object; each line must be one object")
            yield row

    def _check_header(self, header: list[str]) -> None:
        if TIMESTAMP not in self._columns:
            self._columns[TIMESTAMP] = next((n for n in header if n.lower() == TIMESTAMP), TIMESTAMP)
        for ours, theirs in self._columns.items():
            if theirs not in header:
                near = difflib.get_close_matches(theirs, header, n=1)
                hint = (
                    f"did you mean --column {ours}={near[0]}?"
                    if near
                    else f"name it with --column {ours}=COLUMN"
                )
                self._fail(f"no column {theirs!r} among {', '.join(header)}; {hint}")
        if not any(self._columns.get(f.name, f.name) in header for f in self._features):
            self._fail(
                f"no column of {', '.join(header)} is one of the features "
                f"{', '.join(f.name for f in self._features)}; name one with --column FEATURE=COLUMN"
            )

    def _observation(self, row: dict[str, Any]) -> Observation:
        timestamp = self._timestamp(row)
        labels = {
            name: str(row.get(self._columns.get(name, name), default))
            for name, default in self._default.items()
        }
        values: dict[str, Value] = {}
        for feature in self._features:
            column = self._columns.get(feature.name, feature.name)
            if column in row:
                values[feature.name] = self._value(feature, column, row[column])
        self.rows += 1
        if self.rows == 1:
            self.first = timestamp
        self._last = timestamp
        return Observation(
            timestamp,
            labels["model"],
            labels["variant"],
            labels["tenant"],
            labels["trace_id"] or f"{self._name}:{self._line}",
            values,
        )

    # Cells

    def _timestamp(self, row: dict[str, Any]) -> float:
        column = self._columns.get(TIMESTAMP, TIMESTAMP)
        if column not in row:
            self._fail("no timestamp; write seconds since the epoch or ISO 8601", column)
        written = row[column]
        try:
            timestamp = seconds(written)
        except ValueError:
            self._fail("not a time; write seconds since the epoch or ISO 8601", column, written)
        if timestamp > self._now + FUTURE:
            hint = "it looks like milliseconds: divide by 1000" if timestamp > 1e11 else "correct it"
            self._fail(f"in the future; {hint}", column, written)
        if timestamp < self._last:
            self._fail("before the row above it; sort the file by time", column, written)
        return timestamp

    def _value(self, feature: Feature, column: str, written: Any) -> Value:
        if written is None or (isinstance(written, str) and written.lower() in _MISSING):
            return None
        if feature.kind == "categorical":
            return str(written)
        if feature.kind == "binary":
            truth = written if isinstance(written, bool) else _TRUTHS.get(str(written).lower())
            if truth is None:
                self._fail(
                    f"{feature.name} is true or false; write one of {', '.join(_TRUTHS)}", column, written
                )
            return truth
        try:
            number = math.nan if isinstance(written, bool) else float(written)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            self._fail(f"{feature.name} is a number; leave it empty where it does not apply", column, written)
        if feature.kind == "count":
            if number < 0 or number != int(number):
                self._fail(f"{feature.name} is a whole number, at least 0", column, written)
            return int(number)
        return number

    def _fail(self, problem: str, column: str = "", written: Any = None) -> NoReturn:
        place = f"{self._name}:{self._line}"
        if column:
            place += f": column {column!r}"
        if written is not None:
            place += f": {written!r}"
        raise RecordingError(f"{place}: {problem}")


def seconds(written: float | str) -> float:
    """Seconds since the epoch of a number or ISO 8601. Raises `ValueError` for anything else.

    >>> seconds("2023-11-16 18:17:03.9799600"), seconds("1700000000.5")
    (1700158623.97996, 1700000000.5)
    """
    try:
        timestamp = math.nan if isinstance(written, bool) else float(written)
    except (TypeError, ValueError):
        moment = datetime.fromisoformat(str(written))
        timestamp = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(timestamp):
        raise ValueError("not a time")
    return timestamp
