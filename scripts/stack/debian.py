"""Prometheus, Alertmanager, nginx, Chromium and faketime: Debian's packages, installed without starting a service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.stack import cache

COMMANDS = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
    "nginx": ("nginx", "/usr/sbin/nginx"),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "faketime": ("faketime",),
}
"""What the tests run, and the names it may have."""

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "nginx": "nginx",
    "chromium": "chromium",
    "faketime": "faketime",
}
FORMULAE = PACKAGES | {
    "alertmanager": "alertmanager",
    "amtool": "alertmanager",
    "faketime": "libfaketime",
}

POLICY = Path("/usr/sbin/policy-rc.d")
DENY = "#!/bin/sh\n# By driftline's make stack, while it installs packages.\nexit 101\n"


def command(name: str) -> Path | None:
    """Where the command is, or None where it is not installed."""
    for spelling in COMMANDS[name]:
        found = shutil.which(spelling)
        if found:
            return Path(found)
    return None


def missing() -> list[str]:
    return [name for name in COMMANDS if command(name) is None]


def installed() -> bool:
    return not missing()


def install() -> None:
    absent = missing()
    packages = sorted({PACKAGES[name] for name in absent})
    if sys.platform == "darwin":
        formulae = " ".join(sorted({FORMULAE[name] for name in absent}))
        raise cache.CannotInstallError(f"{', '.join(absent)} missing: brew install {formulae}")
    if shutil.which("apt-get") is None:
        raise cache.CannotInstallError(f"{', '.join(absent)} missing, and this system has no apt-get")
    if os.geteuid() != 0:
        raise cache.CannotInstallError(
            f"{', '.join(absent)} missing: sudo apt-get install --no-install-recommends {' '.join(packages)} "
            "(then stop the services it starts), or run make stack as root"
        )
    with _services_stay_down():
        _apt("update")
        _apt("install", "--no-install-recommends", *packages)


def _apt(*arguments: str) -> None:
    subprocess.run(
        ["apt-get", "--yes", "--quiet", "--option", "Acquire::Retries=5", *arguments],
        check=True,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Debian starts what it installs, on its usual port, unless this script says no (101: forbidden)."""
    if POLICY.exists() and POLICY.read_text() != DENY:  # ours is there where an earlier run was killed
        yield
        return
    POLICY.write_text(DENY)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
