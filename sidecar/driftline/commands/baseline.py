"""`driftline baseline`: the drift references of a running sidecar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from driftline.commands.admin import Admin, admin_options

_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
_model = click.argument("model")
_variant = click.option("--variant", default="", help="Of a pool with several; none by default.")


@click.group()
def command() -> None:
    """List, pin, export and import drift references.

    A reference is what live traffic is compared with: learned from a model's first traffic, then frozen.
    """


@command.command("list", epilog="Example: driftline baseline list")
@_as_json
@admin_options
def list_(admin: Admin, as_json: bool) -> None:
    """One line for each model and variant."""
    baselines = admin.json("GET", "/api/v1/baselines")["baselines"]
    if as_json:
        click.echo(json.dumps(baselines, indent=2))
    elif not baselines:
        click.echo("no traffic yet: a reference is learned from each model's first calls")
    else:
        table = Table("model", "variant", "state", "reference", "features")
        for one in baselines:
            features = one["features"].values()
            pinned = sum(feature["state"] == "pinned" for feature in features)
            table.add_row(
                one["model"],
                one["variant"] or "-",
                one["state"],
                one["reference"] or "-",
                f"{pinned} of {len(features)}",
            )
        Console().print(table)


@command.command(epilog="Example: driftline baseline show llama-3.1-8b")
@_model
@_variant
@_as_json
@admin_options
def show(admin: Admin, model: str, variant: str, as_json: bool) -> None:
    """How far each feature of MODEL is, and what its thresholds rest on."""
    found = [
        one
        for one in admin.json("GET", "/api/v1/baselines")["baselines"]
        if (one["model"], one["variant"]) == (model, variant)
    ]
    if not found:
        raise click.ClickException(
            f"no traffic of {model} {variant}".rstrip() + "; see driftline baseline list"
        )
    if as_json:
        click.echo(json.dumps(found[0], indent=2))
        return
    table = Table("feature", "state", "calls", "learned", "calibrated at")
    for name, feature in found[0]["features"].items():
        calibrated = ", ".join(feature["calibrated"]) or "no scale yet: alarms are tickets"
        table.add_row(
            name, feature["state"], str(feature["samples"]), f"{feature['progress']:.0%}", calibrated
        )
    Console().print(table)


@command.command(epilog="Example: driftline baseline pin llama-3.1-8b")
@_model
@_variant
@admin_options
def pin(admin: Admin, model: str, variant: str) -> None:
    """Freeze what has been learned of MODEL."""
    _change(admin, model, variant, "pin")


@command.command(epilog="Example: driftline baseline unpin llama-3.1-8b")
@_model
@_variant
@admin_options
def unpin(admin: Admin, model: str, variant: str) -> None:
    """Forget the reference of MODEL and learn anew."""
    _change(admin, model, variant, "unpin")


@command.command(epilog="Example: driftline baseline export llama-3.1-8b --output llama.json")
@_model
@_variant
@click.option("--output", type=click.Path(path_type=Path), help="A file; standard output by default.")
@admin_options
def export(admin: Admin, model: str, variant: str, output: Path | None) -> None:
    """Write the reference of MODEL as one JSON file, to be reviewed or used elsewhere."""
    document = admin.request("GET", _path(model, variant))
    if output is None:
        click.echo(document)
    else:
        output.write_bytes(document)
        click.echo(f"{output}: {len(document)} bytes")


@command.command("import", epilog="Example: driftline baseline import llama-3.1-8b llama.json")
@_model
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_variant
@admin_options
def import_(admin: Admin, model: str, file: Path, variant: str) -> None:
    """Compare MODEL with the reference in FILE from now on."""
    _say(admin.json("PUT", _path(model, variant), file.read_bytes()), model, variant)


def _change(admin: Admin, model: str, variant: str, action: str) -> None:
    _say(admin.json("POST", f"{_path(model, variant)}/{action}", b""), model, variant)


def _say(answer: Any, model: str, variant: str) -> None:
    one = next(b for b in answer["baselines"] if (b["model"], b["variant"]) == (model, variant))
    click.echo(f"{model} {variant}".rstrip() + f": {one['state']} {one['reference']}".rstrip())


def _path(model: str, variant: str) -> str:
    return f"/api/v1/baselines/{quote(model, safe='')}/{quote(variant or '-', safe='')}"
