"""Drift state on disk: `baselines/*.json` and `windows/drift.snapshot` under the state directory.

Every write is atomic. A file that cannot be read is refused, reported, and from then on never written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import msgspec

from driftline.drift import snapshot
from driftline.drift.detector import Detector
from driftline.drift.reference import Reference
from driftline.drift.settings import DriftSettings

MAX_NAME = 150
"""Characters of a model's and variant's names that a file name holds."""


class StateError(Exception):
    """A file of the state directory cannot be used. The message names it and the way out."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; it is left as it is: move it away to begin anew")
        self.path = path


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds `data` or what it held before, whenever this is interrupted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


Stamp = tuple[str, bool]
"""Of a baseline: its id, and whether it is frozen. While both are the same its file need not be written again."""


class Pending(msgspec.Struct, frozen=True):
    """What `save` writes: bytes, so that a thread can write them while the detector goes on."""

    epoch: int
    references: dict[Path, Stamp]
    """Of each baseline that is to be there afterwards."""
    changed: dict[Path, bytes]
    snapshot: bytes


class Store:
    """Keeps one detector between the runs of a process."""

    def __init__(self, state_dir: Path) -> None:
        self.baselines = state_dir / "baselines"
        self.snapshot = state_dir / "windows" / "drift.snapshot"
        self.refused: list[StateError] = []
        """Files that `load` could not use."""
        self._written: dict[Path, Stamp] = {}

    def path(self, model: str, variant: str) -> Path:
        """Of the baseline of a model and variant."""
        name = f"{quote(model, safe='')}@{quote(variant, safe='')}"
        if len(name) > MAX_NAME:
            name = f"{name[:MAX_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self.baselines / f"{name}.json"

    # Reading

    def load(self, settings: DriftSettings, clock: float) -> Detector:
        """The detector as it was saved last, with what could be used; `refused` tells what could not."""
        self.refused = []
        references = self._read_baselines(settings, clock)
        self._written = {path: _stamp(reference) for path, reference in references.items()}
        baselines = [reference.encode() for reference in references.values()]
        return Detector.restore(settings, self._read_snapshot(), baselines, clock)

    def _read_baselines(self, settings: DriftSettings, clock: float) -> dict[Path, Reference]:
        references = {}
        trial = Detector(settings, clock)
        for path in sorted(self.baselines.glob("*.json")):
            try:
                data = path.read_bytes()
                trial.import_(data)
                reference = self._own(path, Reference.decode(data))
            except (OSError, ValueError) as error:
                self.refused.append(StateError(path, str(error)))
            else:
                references[path] = reference
        return references

    def _own(self, path: Path, reference: Reference) -> Reference:
        """`reference`, where its file is the one that `save` would write."""
        own = self.path(reference.model, reference.variant)
        if path != own:
            raise ValueError(f"it is of {reference.model!r} {reference.variant!r}: rename it to {own.name}")
        return reference

    def _read_snapshot(self) -> bytes | None:
        try:
            data = self.snapshot.read_bytes()
            snapshot.decode(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.refused.append(StateError(self.snapshot, str(error)))
            return None
        return data

    # Writing

    def save(self, detector: Detector) -> None:
        """Write the references that changed, then the snapshot. See `write` for errors."""
        self.write(self.pending(detector))

    def pending(self, detector: Detector) -> Pending:
        """What there is to write."""
        references = {self.path(of.model, of.variant): of for of in detector.references()}
        stamps = {path: _stamp(reference) for path, reference in references.items()}
        changed = {
            path: reference.encode()
            for path, reference in references.items()
            if self._written.get(path) != stamps[path]
        }
        return Pending(detector.epoch, stamps, changed, detector.snapshot())

    def write(self, pending: Pending) -> None:
        """Write what `pending` gave; files that were refused stay as they are.

        Raises `StateError` where another process has taken the state up since; `OSError` where the disk refuses.
        """
        refused = {error.path for error in self.refused}
        if self.snapshot not in refused:
            self._check_epoch(pending.epoch)
        for path, data in pending.changed.items():
            if path not in refused:
                write_atomically(path, data)
        for path in self._written.keys() - pending.references.keys():
            path.unlink(missing_ok=True)
        self._written = pending.references
        if self.snapshot not in refused:
            write_atomically(self.snapshot, pending.snapshot)

    def _check_epoch(self, own: int) -> None:
        try:
            with self.snapshot.open("rb") as file:
                epoch = snapshot.decode_header(file.readline()).epoch
        except FileNotFoundError:
            return
        except ValueError as error:
            raise StateError(self.snapshot, str(error)) from None
        if epoch > own:
            raise StateError(self.snapshot, f"another process has taken it up (epoch {epoch})")


def _stamp(reference: Reference) -> Stamp:
    return reference.id, reference.frozen
