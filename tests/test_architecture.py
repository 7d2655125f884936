"""The rules of docs/architecture.md, held against the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from driftline.metrics.prometheus import prometheus_name
from driftline.tracing import semconv
from scripts.reference import exported

ROOT = Path(__file__).parents[1]
SIDECAR = ROOT / "sidecar" / "driftline"
FILES = sorted(SIDECAR.rglob("*.py"))

IO = {
    "asyncio",
    "fcntl",
    "http",
    "io",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "select",
    "selectors",
}
IO |= {"shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "urllib.request"}
CLOCKS = {"time"}

LONG = {}
"""Files above 400 lines, and why."""

NAMES_ELSEWHERE = {
    "attribution.py": "keys of W3C baggage that applications send; some attributes are called the same",
    "demo/admin.py": "reads /metrics from outside, as any script could",
}
"""Files that may write names of attributes or metrics outside tracing/ and metrics/, and why."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(path: Path) -> str:
    return path.relative_to(SIDECAR).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names, those under TYPE_CHECKING and inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def strings(path: Path) -> Iterator[str]:
    """Every string of the code, docstrings excepted."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def allowed() -> dict[str, tuple[set[str], set[str]]]:
    """The table: package → packages of ours, libraries."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|$", text, re.MULTILINE)
    return {
        package: (set(re.findall(r"`(\w+)`", ours)), set(re.findall(r"`(\w+)`", theirs)))
        for package, ours, theirs in rows
    }


def found() -> dict[str, tuple[set[str], set[str]]]:
    """The same of the code."""
    graph: dict[str, tuple[set[str], set[str]]] = {}
    for path in FILES:
        package = package_of(path)
        if package in ("__init__", "__main__"):
            continue
        ours, theirs = graph.setdefault(package, (set(), set()))
        for name in imports(path):
            top, _, rest = name.partition(".")
            inner = rest.partition(".")[0]
            if top == "driftline":
                ours |= {inner} - {package, "__version__"}
            elif top not in sys.stdlib_module_names:
                theirs.add(top)
    return graph


def test_packages_import_what_the_table_says_and_nothing_else():
    assert found() == allowed()


def loaded_by(module: str) -> list[str]:
    """What a fresh interpreter has loaded when it has imported `module`, and nothing else."""
    program = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    return list(json.loads(subprocess.check_output([sys.executable, "-c", program])))


@pytest.mark.parametrize(
    "module", ["driftline.relay.__main__", "driftline.observer.__main__", "driftline.cli"]
)
def test_a_process_is_there_before_anything_heavy_is_loaded(module):
    """A relay never needs it, the observer takes records first, and `--help` does not wait for it."""
    heavy = {
        "aiohttp",
        "grpc",
        "jsonschema_rs",
        "numpy",
        "opentelemetry",
        "prometheus_client",
        "rich",
        "scipy",
        "yaml",
    }
    assert {name.partition(".")[0] for name in loaded_by(module)} & heavy == set()


def test_a_relay_loads_nothing_of_the_telemetry_plane():
    """Of ours, what the table lets it import, and what that imports."""
    ours = {
        name.split(".")[1] for name in loaded_by("driftline.relay.__main__") if name.startswith("driftline.")
    }
    assert ours == {
        "attribution",
        "baggage",
        "control",
        "descriptors",
        "exchange",
        "listeners",
        "logs",
        "relay",
        "settings",
    }


@pytest.mark.parametrize("package", ["dialects", "drift"])
def test_what_is_pure_does_no_io_and_reads_no_clock(package):
    """Bytes or numbers in, values out; time is an argument."""
    impure = {
        f"{path.relative_to(SIDECAR)}: {name}"
        for path in (SIDECAR / package).glob("*.py")
        for name in imports(path)
        if {name, name.partition(".")[0], name.rpartition(".")[0]} & (IO | CLOCKS)
    }
    files = (
        {f"drift/store.py: {name}" for name in ("os", "pathlib.Path", "tempfile")}
        if package == "drift"
        else set()
    )
    assert impure == files


@pytest.mark.parametrize("package", ["dialects", "drift", "quality", "cost"])
def test_nothing_that_judges_a_call_asks_what_time_it_is(package):
    """Else a replay would judge differently than the live detector did."""
    reading = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "time_ns", "monotonic_ns"}
    for path in (SIDECAR / package).glob("*.py"):
        called = {
            node.func.attr
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert called & reading == set(), path
        assert "open" not in {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}, path


def test_names_of_attributes_and_metrics_are_written_in_one_place():
    """A rename touches tracing/ or metrics/, and nothing is exported under a name that is spelled twice."""
    names = {value for value in vars(semconv).values() if isinstance(value, str) and "." in value}
    for metric in exported():
        names |= {metric.name, prometheus_name(metric), f"{prometheus_name(metric)}_total"}
    prefix = re.compile(r"(?:gen_ai|langfuse|openinference|llm)\.")
    elsewhere = {
        str(path.relative_to(SIDECAR))
        for path in FILES
        if package_of(path) not in ("tracing", "metrics")
        for text in strings(path)
        if text in names or prefix.match(text)
    }
    assert elsewhere == set(NAMES_ELSEWHERE)


def test_every_test_stands_where_its_subject_stands():
    """tests/relay/ is about relay/, tests/test_config.py about config.py."""
    subjects = {
        "benchmarks": "benchmarks",
        "chaos": "chaos",
        "docs": "docs",
        "grafana": "grafana",
        "scripts": "scripts",
        "stack": "scripts/stack",
    }
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        first, *rest = path.relative_to(ROOT / "tests").parts
        if rest:
            assert (ROOT / subjects.get(first, f"sidecar/driftline/{first}")).is_dir(), path
        else:
            subject = first.removeprefix("test_")
            assert (SIDECAR / subject).exists() or (ROOT / "docs" / subject).with_suffix(".md").exists(), path


def test_a_long_file_has_a_reason():
    """Above 400 lines a file is a question; those with an answer are in LONG."""
    long = {
        str(path.relative_to(SIDECAR))
        for path in FILES
        if len(path.read_text(encoding="utf-8").splitlines()) > 400
    }
    assert long == set(LONG)
