"""Baseline files: what is written is read, anything else is refused with a reason."""

import msgspec
import pytest

from driftline.drift.detector import Detector
from driftline.drift.features import FEATURES
from driftline.drift.reference import SCHEMA, Binning, Reference
from tests.drift.traffic import START, Traffic, drive, quick


@pytest.fixture(scope="module")
def baseline() -> bytes:
    detector = Detector(quick(), START)
    drive(detector, Traffic(1).calls(START, 20, tenants=("a", "b")))
    return detector.export("llama", "")


def test_a_baseline_is_read_as_it_was_written(baseline):
    reference = Reference.decode(baseline)
    assert reference.encode() == baseline
    assert set(reference.features) == {"input_tokens", "finish_reason", "refusal"}
    assert set(reference.features["refusal"].tenants) == {"a", "b"}


def test_a_baseline_of_before_the_freeze_is_read(baseline):
    """Files without the flag are of references that were pinned by themselves."""
    document = msgspec.json.decode(baseline)
    assert document.pop("frozen") is True
    assert not Reference.decode(msgspec.json.encode(document)).frozen


def test_the_id_is_of_the_content(baseline):
    """The same counts have one id under any name, other counts another."""
    reference = Reference.decode(baseline)
    assert msgspec.structs.replace(reference, model="other", created_at=0.0).id == reference.id
    fewer = {name: of for name, of in reference.features.items() if name != "refusal"}
    assert msgspec.structs.replace(reference, features=fewer).id != reference.id


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[: len(text) // 2], "not a baseline"),
        (lambda _: b"[]", "not a baseline"),
        (lambda _: b"{}", "not a baseline"),
        (
            lambda text: text.replace(b'"schema": 1', b'"schema": 2'),
            f"schema 2 and this version reads up to {SCHEMA}",
        ),
        (lambda text: text.replace(b'"counts": [', b'"counts": [-1, '), "broken baseline"),
        (lambda text: text.replace(b'"kind": "binary"', b'"kind": "numeric"'), "broken baseline"),
        (lambda text: text.replace(b'"model": "llama"', b'"model": 7'), "broken baseline"),
    ],
)
def test_anything_else_is_refused(baseline, edit, message):
    edited = edit(baseline)
    assert edited != baseline
    with pytest.raises(ValueError, match=message):
        Reference.decode(edited)


def test_bins_that_are_not_of_this_version_are_refused(baseline):
    """Counts between other edges cannot be compared."""
    of = Reference.decode(baseline).features["input_tokens"]
    moved = msgspec.structs.replace(of, edges=(*of.edges[:-1], of.edges[-1] + 0.5))
    with pytest.raises(ValueError, match="input_tokens: the bins of the reference are not of this version"):
        Binning(FEATURES["input_tokens"], moved)


def test_a_reference_of_another_kind_is_refused(baseline):
    of = Reference.decode(baseline).features["refusal"]
    with pytest.raises(ValueError, match="is count here and binary in the reference"):
        Binning(FEATURES["input_tokens"], of)
