"""Nothing is named that does not exist."""

from __future__ import annotations

import re

import click
import pytest

from driftline.cli import main as driftline
from grafana.definition.alerts import ALERTS, RECORDINGS
from tests.docs.names import KEYS, SECTIONS, VARIABLES, dotted, samples, standard_variables
from tests.docs.pages import PAGES, code

every_page = pytest.mark.parametrize("page", PAGES)


@every_page
def test_settings(page):
    """`drift.slot`, and with a value `drift.pin: manual`."""
    section = "|".join(path.partition("[")[0] for path in SECTIONS if path)
    named = {
        m[1]
        for word in code(PAGES[page])
        if (m := re.fullmatch(rf"((?:{section})[.\[][a-z_.\[\]]+)(: .*)?", word))
    }
    assert named - KEYS - SECTIONS == set()


@every_page
def test_variables(page):
    assert set(re.findall(r"\bDRIFTLINE_[A-Z_]+[A-Z]\b", PAGES[page])) - VARIABLES == set()
    assert set(re.findall(r"\bOTEL_[A-Z_]+[A-Z]\b", PAGES[page])) - standard_variables() == set()


@every_page
def test_metrics(page):
    named = set(re.findall(r"\b(?:driftline|gen_ai)_[a-z_]+[a-z]\b", PAGES[page]))
    assert named - samples() == set()
    recorded = set(re.findall(r"\bdriftline:[a-z_:0-9]+", PAGES[page]))
    assert recorded - {recording.name for recording in RECORDINGS} == set()


@every_page
def test_attributes(page):
    """One that ends in a dot is the beginning of others."""
    prefixes = tuple(name for name in dotted() if name.endswith("."))
    named = {
        word
        for word in code(PAGES[page])
        if re.fullmatch(r"(gen_ai|langfuse|llm|openinference|driftline)\.[a-z_.]+", word)
    }
    unknown = named - dotted() - {"driftline.yaml"}
    assert {word for word in unknown if not word.startswith(prefixes)} == set()


@every_page
def test_alerts(page):
    assert set(re.findall(r"\bDriftline[A-Z]\w+", PAGES[page])) - {alert.name for alert in ALERTS} == set()


@every_page
def test_commands(page):
    """In a sentence, where they stand without their arguments."""
    for said in code(PAGES[page]):
        if said.startswith("driftline ") and said != "driftline local":  # a column of the benchmark
            named(said)


def named(said: str) -> None:
    command: click.Command = driftline
    for word in said.split()[1:]:
        if isinstance(command, click.Group) and word.isalpha():
            found = command.get_command(click.Context(command), word)
            assert found is not None, said
            command = found
        elif word.startswith("--"):
            options = {option for parameter in command.params for option in parameter.opts}
            assert word in options | {"--help"}, said
