"""LiteLLM's proxy, the Python gateway most in use, in an environment of its own (`make bench-peers`)."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.peers import CACHE, Running

VERSION = "1.106.2"
LITELLM = CACHE / f"litellm-{VERSION}" / "bin" / "litellm"


class LiteLlm:
    name = "LiteLLM"
    telemetry = "as it comes"
    slow = True

    def missing(self) -> str:
        return "" if LITELLM.exists() else f"LiteLLM {VERSION}: make bench-peers"

    @contextlib.contextmanager
    def start(self, upstream: str, cores: machine.Cores, directory: Path) -> Iterator[Running]:
        port = machine.free_port()
        parameters = {"model": "openai/*", "api_base": f"http://{upstream}/v1", "api_key": "none"}
        file = directory / "litellm.yaml"  # which JSON is, too
        file.write_text(
            json.dumps({"model_list": [{"model_name": "*", "litellm_params": parameters}]}), encoding="utf-8"
        )
        command = [str(LITELLM), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        key = f"sk-{secrets.token_hex(32)}"  # it does not start without one
        environment = {
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        }
        with machine.process(
            command, cores.proxy, log=directory / "litellm.log", environment=environment
        ) as started:
            machine.wait_listening(port, started)
            yield Running(
                f"127.0.0.1:{port}",
                {"proxy": started.pid},
                {},
                quiet_seconds=1.0,
                exact=False,
                fields=(f"Authorization: Bearer {key}",),
            )
