"""What to do where a component is absent: skip and say so, or fail where the whole stack is required."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Never

import pytest

from scripts.stack import collector, debian, vllm


def command(name: str) -> Path:
    """Where the command of a Debian package is."""
    return debian.command(name) or _absent(name)


def collector_binary() -> Path:
    return collector.BINARY if collector.installed() else _absent("otelcol-driftline")


def vllm_python() -> Path:
    return vllm.PYTHON if vllm.installed() else _absent("vLLM")


def _absent(name: str) -> Never:
    reason = f"{name} is not installed: make stack installs it"
    if os.environ.get("DRIFTLINE_REQUIRE_STACK") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
