"""Drift state on disk: `baselines/*.json` and `windows/drift.snapshot` under the state directory.

Every write is atomic. A file that cannot be read is refused, reported, and from then on never written to.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from driftline.drift import snapshot
from driftline.drift.detector import Detector
from driftline.drift.reference import Reference
from driftline.drift.settings import DriftSettings


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


class Store:
    """Keeps one detector between the runs of a process."""

    def __init__(self, state_dir: Path) -> None:
        self.baselines = state_dir / "baselines"
        self.snapshot = state_dir / "windows" / "drift.snapshot"
        self.refused: list[StateError] = []
        """Files that `load` could not read."""
        self._written: dict[Path, str] = {}

    def load(self, settings: DriftSettings, clock: float) -> Detector:
        """The detector as it was saved last, with what could be read; `refused` tells what could not."""
        self.refused = []
        references = {}
        for path in sorted(self.baselines.glob("*.json")):
            try:
                reference = Reference.decode(path.read_bytes())
                # Whether it fits this version's features.
                Detector.restore(settings, None, [reference.encode()], clock)
            except (OSError, ValueError) as error:
                self.refused.append(StateError(path, str(error)))
            else:
                references[path] = reference
        state = self._read_snapshot()
        encoded = [reference.encode() for reference in references.values()]
        self._written = {path: reference.id for path, reference in references.items()}
        return Detector.restore(settings, state, encoded, clock)

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

    def save(self, detector: Detector) -> None:
        """Write the references that changed, then the snapshot.

        Raises `StateError` where another process has taken the state up since; `OSError` where the disk refuses.
        """
        refused = {error.path for error in self.refused}
        self._check_epoch(detector)
        wanted = {}
        for reference in detector.references():
            path = (
                self.baselines / f"{quote(reference.model, safe='')}@{quote(reference.variant, safe='')}.json"
            )
            wanted[path] = reference.id
            if path not in refused and self._written.get(path) != reference.id:
                write_atomically(path, reference.encode())
        for path in self._written.keys() - wanted.keys():
            path.unlink(missing_ok=True)
        self._written = wanted
        if self.snapshot not in refused:
            write_atomically(self.snapshot, detector.snapshot())

    def _check_epoch(self, detector: Detector) -> None:
        try:
            with self.snapshot.open("rb") as file:
                epoch = snapshot.decode_header(file.readline()).epoch
        except (FileNotFoundError, ValueError):
            return
        if epoch > detector.epoch:
            raise StateError(self.snapshot, f"another process has taken it up (epoch {epoch})")
