"""`python -m driftline.simulate`: the simulated upstream by itself."""

from __future__ import annotations

import asyncio
import signal

import click

from driftline.simulate.upstream import MODEL, SimulatedUpstream


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0: any that is free."
)
@click.option("--model", default=MODEL, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same replies.")
@click.option(
    "--time-scale", type=click.FloatRange(min=0), default=1.0, show_default=True, help="0: no waiting."
)
@click.option(
    "--stream-interval", type=click.IntRange(min=1), default=1, show_default=True, help="Tokens per event."
)
@click.option("--max-model-len", type=click.IntRange(min=1), default=32_768, show_default=True)
def main(
    *,
    host: str,
    port: int,
    model: str,
    seed: int,
    time_scale: float,
    stream_interval: int,
    max_model_len: int,
) -> None:
    """Answer like vLLM's OpenAI server, without a model, until Ctrl-C."""
    upstream = SimulatedUpstream(
        model=model,
        seed=seed,
        time_scale=time_scale,
        stream_interval=stream_interval,
        max_model_len=max_model_len,
    )
    try:
        asyncio.run(_serve(upstream, host, port))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        ) from None


async def _serve(upstream: SimulatedUpstream, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with upstream.serving(host, port) as url:
        click.echo(f"simulated upstream ({upstream.model}, not a model) on {url}", err=True)
        await stop.wait()


if __name__ == "__main__":
    main(prog_name="python -m driftline.simulate")
