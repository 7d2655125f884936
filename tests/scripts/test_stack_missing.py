"""`make stack` where something cannot be installed says what, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.stack import cache, collector, debian


@pytest.fixture
def bare_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `PATH` on which there is nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("bare_system")
def test_without_a_package_manager_the_missing_commands_are_named() -> None:
    with pytest.raises(
        cache.CannotInstallError, match=r"prometheus, promtool, .* missing.*(apt-get|brew install)"
    ):
        debian.install()


@pytest.mark.usefixtures("bare_system")
def test_without_go_the_official_image_is_named() -> None:
    with pytest.raises(cache.CannotInstallError, match=r"needs Go 1\.26.*opentelemetry-collector-contrib"):
        collector.install()


def test_every_command_has_a_package_on_debian_and_on_macos() -> None:
    assert set(debian.COMMANDS) == set(debian.PACKAGES) == set(debian.FORMULAE)
