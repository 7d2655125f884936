"""The OpenTelemetry Collector, with exactly the modules that the shipped configurations use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from scripts.stack import cache

MANIFEST = Path(__file__).parents[2] / "collector-config" / "builder.yaml"
PLACE = cache.place("collector", MANIFEST)
BINARY = PLACE / "otelcol-driftline"


def installed() -> bool:
    return BINARY.exists()


def install() -> None:
    if shutil.which("go") is None:
        raise cache.CannotInstallError(
            "building the Collector needs Go 1.26 or later (https://go.dev/doc/install); "
            "the configurations also run in the official image otel/opentelemetry-collector-contrib"
        )
    cache.make(PLACE, _build)


def version() -> str:
    """Of the distribution in the manifest, which is the version of the builder and of every module."""
    found = re.search(r"^ +version: (\S+)$", MANIFEST.read_text(), re.MULTILINE)
    assert found, f"{MANIFEST} has no version"
    return found[1]


def _build(directory: Path) -> None:
    subprocess.run(
        ["go", "run", f"go.opentelemetry.io/collector/cmd/builder@v{version()}", "--config", str(MANIFEST)],
        check=True,
        cwd=directory,  # the manifest's output_path is relative
        env=os.environ | {"GOFLAGS": "-buildvcs=false"},  # there is no revision to stamp
    )
    built = directory / "build"
    (built / BINARY.name).rename(directory / BINARY.name)
    shutil.rmtree(built)
