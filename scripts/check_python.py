"""Say clearly, before anything is installed, when this machine cannot run driftline."""

import sys

if sys.platform == "win32":
    sys.exit("driftline runs on Linux and macOS; on Windows use WSL 2 (wsl --install) and run make there.")
if sys.version_info < (3, 11):  # noqa: UP036  # this file is what an older Python runs
    sys.exit(
        f"driftline needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Name another one: make PYTHON=python3.12 run"
    )
