"""A real vLLM server on the CPU, serving the tiny random model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.stack import cache
from scripts.stack.vllm import MODEL
from tests.stack.components import required
from tests.stack.components.http import answers
from tests.stack.components.process import Process, free_ports

MODEL_NAME = "tiny"
CONTEXT = 2_048
DEADLINE = 600.0
"""Seconds to start: 40 on a quiet machine, minutes on a busy one."""

CHAT = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-prompt-tokens-details")
EMBEDDINGS = ("--runner", "pooling", "--convert", "embed")


@dataclass(frozen=True)
class Vllm:
    url: str
    """Without `/v1`: what the sidecar's `--upstream` takes."""
    model: str
    process: Process


@contextmanager
def serving(
    name: str, arguments: Sequence[str], *, directory: Path, traces_endpoint: str | None = None
) -> Iterator[Vllm]:
    """A server that is ready; its spans go to `traces_endpoint` (OTLP by HTTP), if there is one."""
    [port] = free_ports(1)
    command = [
        *(required.vllm_python(), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", MODEL, "--served-model-name", MODEL_NAME),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(CONTEXT), "--dtype", "bfloat16", "--enforce-eager"),
        *arguments,
        *(("--otlp-traces-endpoint", traces_endpoint) if traces_endpoint else ()),
    ]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": str(cache.ROOT / "vllm-cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with Process(name, command, directory=directory, environment=environment) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_until(lambda: answers(f"{url}/health"), deadline=DEADLINE)
        yield Vllm(url, MODEL_NAME, process)
