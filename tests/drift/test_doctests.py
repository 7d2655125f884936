"""Examples in docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import driftline.drift

MODULES = [f"driftline.drift.{module.name}" for module in pkgutil.iter_modules(driftline.drift.__path__)]


@pytest.mark.parametrize("name", ["driftline.drift", *MODULES])
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_some_module_has_examples():
    assert doctest.testmod(driftline.drift).attempted > 5
