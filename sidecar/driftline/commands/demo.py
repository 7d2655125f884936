"""`driftline demo`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click
from rich.console import Console

from driftline.listeners import Address


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        Address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


@click.command(epilog="Example: driftline demo, then open http://127.0.0.1:9464/")
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    callback=_address,
    help="The sidecar's data port.",
)
@click.option(
    "--admin", default="127.0.0.1:9464", show_default=True, callback=_address, help="Console and API."
)
@click.option(
    "--rate", type=click.FloatRange(40, 400), default=80.0, show_default=True, help="Requests a second."
)
@click.option(
    "--longer", type=click.FloatRange(1.5, 8), default=2.0, show_default=True, help="Factor of the shift."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed asks and answers the same."
)
@click.option("--once", is_flag=True, help="End when the incident has closed, as in CI.")
def command(**options: Any) -> None:
    """See it work: simulated server, sidecar, steady traffic, then longer prompts.

    Needs no other service and leaves nothing behind. Takes about a minute to the incident; Ctrl-C ends it.
    """
    # uvloop and aiohttp: not for --help
    from driftline.demo.run import Options, perform  # noqa: PLC0415
    from driftline.demo.sidecar import SidecarError  # noqa: PLC0415
    from driftline.demo.story import Stuck  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    try:
        sys.exit(asyncio.run(perform(Options(**options), console)))
    except (SidecarError, Stuck, OSError) as error:
        raise click.ClickException(str(error)) from None
