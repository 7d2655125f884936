"""Examples work: commands parse, configurations are good, quoted code is in the file it is quoted from."""

from __future__ import annotations

import ast
import json
import re
import shlex

import click
import pytest
import yaml

from driftline.cli import main as driftline
from driftline.config import Config, load
from scripts.reference import documents
from tests.docs.pages import ROOT, Example, examples
from tests.docs.routes import routes

OTHERS = ("export", "pip", "prometheus", "prometheus-alertmanager")
"""Commands that are not ours."""

LINES = [
    (example, line.strip())
    for example in examples("sh")
    for line in example.text.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def parse(arguments: list[str]) -> None:
    """As the command line does, up to running it. Raises `click.UsageError`."""
    name, command = "driftline", driftline
    context = click.Context(command, **driftline.context_settings)
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"{name} is no command"
        command = found
    command.make_context(name, list(arguments), parent=context)


def is_served(url: str) -> bool:
    path = re.sub(r"^https?://[\w.]+:\d+", "", url).partition("?")[0]
    return path in ("/-/live", "/-/ready") or path in {path for _, path in routes()}


@pytest.mark.parametrize(("example", "line"), LINES, ids=str)
def test_a_command_can_be_given_as_it_is_written(example, line, tmp_path, monkeypatch):
    """It is ours and has these options, or a target of make, or asks for a path that is there."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)
    for word in words:
        if re.fullmatch(r"[\w.-]+\.(csv|json|yaml)", word):
            (tmp_path / word).touch()
    match words:
        case ["driftline", *arguments]:
            parse(arguments)
        case ["make", target]:
            assert re.search(
                rf"^{target}:.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
            )
        case ["curl", url]:
            assert is_served(url)
        case ["python", "-m", module, *_]:
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
        case [other, *rest]:
            assert other in OTHERS
            files = [word.partition("=")[2] for word in rest if word.startswith("--")]
            assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("example", examples("yaml"), ids=str)
def test_a_configuration_is_good(example, tmp_path):
    """It sets something, and nothing that cannot be; files that it names need not be here."""
    if set(yaml.safe_load(example.text)) == {"scrape_configs"}:
        pytest.skip("Prometheus' own")
    path = tmp_path / "driftline.yaml"
    path.write_text(example.text, encoding="utf-8")
    assert load(path, {}, serving=False) != Config()


@pytest.mark.parametrize("example", examples("json"), ids=str)
def test_json_is_json(example):
    json.loads(example.text)


@pytest.mark.parametrize("example", examples("python"), ids=str)
def test_python_is_python_and_a_quotation_is_exact(example: Example):
    """A block that is titled with a file of the checkout is in that file, word for word."""
    if "/" in example.title:
        assert example.text in (ROOT / example.title).read_text(encoding="utf-8")
    else:
        ast.parse(example.text)


def test_generated_parts_are_what_the_code_says():
    """`make reference` changes nothing; the example in docs/drift.md prints what stands below it."""
    stale = [
        str(path.relative_to(ROOT))
        for path, text in documents().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == []
