"""Files: atomic, and never overwritten where they could not be read."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from driftline.drift.detector import Detector
from driftline.drift.reference import Reference
from driftline.drift.store import StateError, Store, write_atomically
from tests.drift.traffic import START, Traffic, drive, quick


@pytest.fixture
def watching():
    """A detector with a reference and a quarter of a window."""
    detector = Detector(quick(), START)
    source = Traffic(1)
    drive(detector, source.calls(START, 30))
    for call in source.calls(START + 30, 0.25):
        detector.observe(call)
    return detector


def test_what_was_saved_is_loaded(tmp_path, watching):
    Store(tmp_path).save(watching)
    again = Store(tmp_path).load(quick(), START + 31)
    again.tick(START + 31)
    watching.tick(START + 31)
    assert again.verdicts() == watching.verdicts()
    assert again.baselines() == watching.baselines()


def test_nothing_saved_is_a_beginning(tmp_path):
    store = Store(tmp_path / "not there")
    assert store.load(quick(), START).baselines() == []
    assert store.refused == []


def test_a_baseline_put_there_by_hand_is_used(tmp_path, watching):
    write_atomically(tmp_path / "baselines" / "llama@.json", watching.export("llama", ""))
    detector = Store(tmp_path).load(quick(), START)
    assert detector.baselines()[0].reference == watching.baselines()[0].reference


def frozen(path):
    return Reference.decode(path.read_bytes()).frozen


def test_a_frozen_reference_is_frozen_after_a_restart(tmp_path, watching):
    """Its file is written anew though its counts are the same, and is enough by itself."""
    store = Store(tmp_path)
    store.save(watching)
    path = store.path("llama", "")
    assert not frozen(path)
    watching.pin("llama", "")
    store.save(watching)
    assert frozen(path)
    store.snapshot.unlink()
    again = Store(tmp_path).load(quick(), START + 31)
    assert [reference.frozen for reference in again.references()] == [True]


def test_a_restart_freezes_nothing(tmp_path, watching):
    """What was pinned by itself goes on to take in features."""
    Store(tmp_path).save(watching)
    again = Store(tmp_path).load(quick(), START + 31)
    assert [reference.frozen for reference in again.references()] == [False]


def test_a_baseline_under_another_name_is_refused(tmp_path, watching):
    """Or two files could claim one model, and unpinning would not last."""
    write_atomically(tmp_path / "baselines" / "reviewed.json", watching.export("llama", ""))
    store = Store(tmp_path)
    store.load(quick(), START)
    assert "rename it to llama@.json" in str(store.refused[0])


def test_more_baselines_than_models_may_be_watched_are_refused(tmp_path, watching):
    for name in ("a", "b", "c"):
        watching.import_(watching.export("llama", ""), name, "")
    Store(tmp_path).save(watching)
    store = Store(tmp_path)
    detector = store.load(quick(max_series=2), START + 31)
    assert [baseline.model for baseline in detector.baselines()][:2] == ["a", "b"]
    assert ["raise drift.max_series" in str(error) for error in store.refused] == [True, True]


def test_a_thread_may_write_while_the_detector_goes_on(tmp_path, watching):
    """What is written is the state when it was asked for, not a mixture."""
    store = Store(tmp_path)
    pending, expected = store.pending(watching), watching.snapshot()
    drive(watching, Traffic(2).calls(START + 31, 3))
    store.write(pending)
    assert store.snapshot.read_bytes() == expected


def test_names_of_models_are_safe_as_file_names(tmp_path):
    detector = Detector(quick(), START)
    drive(detector, Traffic(1).calls(START, 20, model="../org/model: 8B"))
    Store(tmp_path).save(detector)
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == ["..%2Forg%2Fmodel%3A%208B@.json"]


def test_names_of_models_may_be_longer_than_those_of_files(tmp_path):
    paths = {Store(tmp_path).path("m" * 300 + last, "") for last in "ab"}
    assert len(paths) == 2
    assert all(len(path.name) < 200 for path in paths)


def test_unpinning_removes_the_file(tmp_path, watching):
    store = Store(tmp_path)
    store.save(watching)
    watching.unpin("llama", "")
    store.save(watching)
    assert list((tmp_path / "baselines").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("windows/drift.snapshot", b"garbage", "not a snapshot"),
        (
            "windows/drift.snapshot",
            b'{"format":"driftline-windows","schema":9,"epoch":1,"sequence":0}\n',
            "schema 9",
        ),
        ("baselines/llama@.json", b"{", "not a baseline"),
        ("baselines/llama@.json", b'{"format": "driftline-baseline", "schema": 9}', "schema 9"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_kept(tmp_path, watching, name, content, reason):
    """Watching goes on without it; it is never written over."""
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(content)
    store = Store(tmp_path)
    store.load(quick(), START)
    (error,) = store.refused
    assert error.path == path
    assert reason in str(error)
    assert "move it away" in str(error)
    store.save(watching)
    assert path.read_bytes() == content


def test_a_process_that_was_replaced_does_not_write(tmp_path, watching):
    """The older of two observers finds that the state was taken up, and leaves it."""
    store = Store(tmp_path)
    store.save(watching)
    newer = Store(tmp_path)
    newer.save(newer.load(quick(), START + 31))
    with pytest.raises(StateError, match="another process"):
        store.save(watching)


SAVING = """
import sys
from pathlib import Path
from driftline.drift.store import write_atomically
path, i = Path(sys.argv[1]), 0
while True:
    write_atomically(path, bytes([i % 256]) * 100_000)
    print(i, flush=True)
    i += 1
"""


def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state"
    with subprocess.Popen([sys.executable, "-c", SAVING, path], stdout=subprocess.PIPE) as process:
        for _ in range(5):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    content = path.read_bytes()
    assert len(content) == 100_000
    assert len(set(content)) == 1


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(Path(tmp_path).iterdir()) == [path]
