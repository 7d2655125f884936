"""`driftline serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from driftline import logs
from driftline.config import Config, ConfigError, load, upstream_flag


@click.command(
    epilog="Example: driftline serve --upstream http://127.0.0.1:8000, then base_url=http://127.0.0.1:8080/v1"
)
@click.option(
    "--upstream", metavar="URL", help="The server to stand in front of, such as http://127.0.0.1:8000."
)
@click.option("--listen", metavar="ADDRESS", help="Where clients connect. [default: 127.0.0.1:8080]")
@click.option("--admin", metavar="ADDRESS", help="Console, metrics and API. [default: 127.0.0.1:9464]")
@click.option("--relays", type=int, metavar="N", help="Relay processes. [default: 1]")
@click.option("--state-dir", metavar="DIR", help="Baselines and windows. [default: ./.driftline]")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="DRIFTLINE_CONFIG",
    metavar="FILE",
    help="YAML configuration; see `driftline config show`.",
)
def command(
    *,
    upstream: str | None,
    listen: str | None,
    admin: str | None,
    relays: int | None,
    state_dir: str | None,
    path: Path | None,
) -> None:
    """Run the sidecar until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again, SIGUSR2 replaces the processes one by one.
    """
    from driftline.supervisor import serve  # noqa: PLC0415  # asyncio and sockets: not for --help

    logs.configure("supervisor")
    flags = {
        "pools": upstream_flag(upstream) if upstream else None,
        "listen": listen,
        "admin.listen": admin,
        "relays": relays,
        "state_dir": state_dir,
    }

    def read() -> Config:
        config = load(path, os.environ, flags)
        if not config.pools:
            raise ConfigError("no upstream: give --upstream http://host:port, or pools: in the configuration")
        return config

    try:
        sys.exit(serve(read(), read))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from None
