"""What exists is in the reference."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from driftline import attribution
from driftline.quality import SIGNALS
from driftline.relay import headers
from driftline.relay.counters import DROP_REASONS, OUTCOMES
from driftline.tracing import baggage, content, presets, semconv
from scripts.reference import sections
from tests.docs.names import attributes
from tests.docs.pages import PAGES, REFERENCE, ROOT
from tests.docs.routes import routes


def absent(names: set[str], text: str) -> set[str]:
    return {name for name in names if f"`{name}`" not in text}


def test_every_key_of_the_configuration_says_what_it_means():
    """By the docstring of its field."""
    assert [key.path for section in sections() for key in section.keys if not key.meaning] == []


def test_the_paths_of_the_admin_port():
    """All of them, and no other."""
    listed = re.findall(r"^\| `(GET|PUT|POST|DELETE) (\S+)`", REFERENCE["http"], re.MULTILINE)
    assert set(listed) == routes()


def test_the_headers_that_are_read():
    """And the keys of baggage."""
    names = {name.decode() for name in headers.RECORDED_REQUEST} - {
        "content-type",  # describe the body
        "content-encoding",
        "user-agent",
        "x-simulate",  # the simulated upstream's
    }
    names |= {"traceparent", "tracestate", content.CAPTURE_HEADER, *attribution.HEADERS}
    keys = {*attribution.BAGGAGE, *baggage._WHOLE, f"{semconv.LANGFUSE_METADATA}*"}
    assert absent(names | keys, REFERENCE["http"]) == set()


def test_the_codes_of_the_relays_own_errors():
    """That a client can see: `upstream_broken` comes after the response has begun, and is not put in words."""
    codes = set()
    for path in (ROOT / "sidecar" / "driftline" / "relay").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                given += node.args[2:3] if getattr(node.func, "id", "") == "Refusal" else []
                codes |= {one.value for one in given if isinstance(one, ast.Constant)}
    assert len(codes) > 10
    assert absent(codes - {"upstream_broken"}, REFERENCE["http"]) == set()


def test_the_values_of_labels():
    values = {*OUTCOMES, "relay_lost", *DROP_REASONS, *SIGNALS, "unpriced", "usage", "unread"}
    assert absent(values, REFERENCE["metrics"]) == set()


def test_the_attributes_of_spans():
    assert absent(attributes(), REFERENCE["spans"]) == set()


def test_the_presets_and_their_variables():
    source = Path(presets.__file__).read_text(encoding="utf-8")
    variables = set(re.findall(r'"((?:LANGFUSE|PHOENIX|LANGSMITH)_\w+)"', source))
    assert len(variables) > 8
    assert absent({*presets._PRESETS, *variables}, PAGES["docs/tracing.md"]) == set()
