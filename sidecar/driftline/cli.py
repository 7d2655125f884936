"""`driftline`: each command is a file in `commands/`, imported when it is asked for."""

from __future__ import annotations

import importlib
import sys

import click

from driftline import __version__

_COMMANDS = {
    "serve": "run the sidecar in front of a server",
    "demo": "see it work: simulated server, sidecar, traffic, a shift",
    "config": "check or show the configuration",
    "baseline": "list, pin, export and import drift references",
    "drift": "replay recorded traffic through the detector",
    "traffic": "send synthetic traffic, with shifts",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"driftline.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="driftline")
def main() -> None:
    """Tracing and drift for LLM serving: a sidecar in front of vLLM.

    Point your application's base_url at it and change nothing else.
    """


if sys.platform == "win32":  # pragma: no cover
    sys.exit("driftline runs on Linux and macOS; on Windows use WSL 2 (wsl --install).")

if __name__ == "__main__":
    main()
