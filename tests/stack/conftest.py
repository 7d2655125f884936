"""Real components as fixtures. An absent one skips its tests, or fails them if DRIFTLINE_REQUIRE_STACK=1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from tests.stack.components import vllm as vllm_component
from tests.stack.components.chromium import Chromium
from tests.stack.components.collector import Collector
from tests.stack.components.langfuse import LangfuseReceiver
from tests.stack.components.prometheus import Prometheus
from tests.stack.components.prometheus import alertmanager as start_alertmanager
from tests.stack.components.prometheus import prometheus as start_prometheus
from tests.stack.components.receiver import Receiver
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.sidecar import sidecar as start_sidecar
from tests.stack.components.vllm import Vllm

NewDirectory = Callable[[str], Path]


@pytest.fixture(scope="session")
def new_directory(tmp_path_factory: pytest.TempPathFactory) -> NewDirectory:
    return tmp_path_factory.mktemp


@pytest.fixture(scope="session")
def langfuse() -> Iterator[LangfuseReceiver]:
    """Where the session's Collector sends what is for Langfuse."""
    with LangfuseReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def collector(new_directory: NewDirectory, langfuse: LangfuseReceiver) -> Iterator[Collector]:
    """The session's Collector, which vLLM sends its spans to: not to be killed."""
    with Collector(directory=new_directory("collector"), langfuse=langfuse.url) as running:
        yield running


@pytest.fixture(scope="session")
def vllm(new_directory: NewDirectory, collector: Collector) -> Iterator[Vllm]:
    """Chat, completions and responses."""
    directory = new_directory("vllm")
    with vllm_component.serving(
        "vllm", vllm_component.CHAT, directory=directory, traces_endpoint=collector.traces_endpoint
    ) as server:
        yield server


@pytest.fixture(scope="session")
def vllm_embeddings(new_directory: NewDirectory) -> Iterator[Vllm]:
    """Embeddings, scores and pooling."""
    directory = new_directory("vllm-embeddings")
    with vllm_component.serving("vllm-embeddings", vllm_component.EMBEDDINGS, directory=directory) as server:
        yield server


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    """What an on-call tool would be: it keeps what Alertmanager posts."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def alertmanager(webhook: Receiver, tmp_path: Path) -> Iterator[str]:
    """`host:port` of an Alertmanager with the shipped routing, which posts to `webhook`."""
    with start_alertmanager(webhook.url, directory=tmp_path) as address:
        yield address


@pytest.fixture
def prometheus(alertmanager: str, tmp_path: Path) -> Callable[..., AbstractContextManager[Prometheus]]:
    """`with prometheus(["127.0.0.1:9464"]) as server:` scrapes, evaluates the shipped rules, alerts."""
    return partial(start_prometheus, directory=tmp_path, alertmanager=alertmanager)


@pytest.fixture
def sidecar(new_directory: NewDirectory) -> Iterator[Callable[..., Sidecar]]:
    """`sidecar(vllm.url, configuration={…}, environment={…}, arguments=[…])`: ready; ended with the test."""
    with _sidecars(new_directory) as start:
        yield start


@pytest.fixture(scope="module")
def module_sidecar(new_directory: NewDirectory) -> Iterator[Callable[..., Sidecar]]:
    """As `sidecar`; ended with the module, and the same for the same upstream."""
    with _sidecars(new_directory) as start:
        yield cache(start)


@contextmanager
def _sidecars(new_directory: NewDirectory) -> Iterator[Callable[..., Sidecar]]:
    with ExitStack() as running:

        def start(upstream: str, **settings: Any) -> Sidecar:
            directory = new_directory("sidecar")
            return running.enter_context(start_sidecar(upstream, directory=directory, **settings))

        yield start


@pytest.fixture(scope="session")
def chromium(new_directory: NewDirectory) -> Chromium:
    return Chromium(new_directory("chromium"))
