"""`driftline config`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import yaml

from driftline.config import ConfigError, load, masked

_file = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Check a configuration, or show the effective one."""


@command.command(epilog="Example: driftline config check driftline.yaml")
@click.argument("path", type=_file, metavar="FILE")
def check(path: Path) -> None:
    """Say whether FILE can be used; exit status 1 and the key, the line and the fix if not."""
    try:
        # Without DRIFTLINE_*, which could hide what the file says; with the keys that exporters look for.
        load(path, {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")})
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{path}: good")


@command.command(epilog="Example: driftline config show --config driftline.yaml")
@click.option("--config", "path", type=_file, envvar="DRIFTLINE_CONFIG", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
def show(path: Path | None, as_json: bool) -> None:
    """Print the effective configuration: defaults, FILE and DRIFTLINE_* variables; secrets masked."""
    try:
        values = masked(load(path, os.environ))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        json.dumps(values, indent=2) if as_json else yaml.safe_dump(values, sort_keys=False), nl=as_json
    )
