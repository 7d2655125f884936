"""Synthetic traffic against a real vLLM: understood by it, and shifting there as on the simulated one."""

import json
import subprocess
import sys

import pytest


def send(vllm, *words):
    """The summary of one run of the command."""
    command = ["--target", vllm.url, "--rate", "8", "--duration", "8", "--max-tokens", "4", "--json", *words]
    run = subprocess.run(
        [sys.executable, "-m", "driftline", "traffic", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_real_server_understands_every_kind_of_request(vllm):
    """Chats, both forms of JSON mode, tools and completions: no error, and every reply is accounted for."""
    summary = send(vllm, "--profile", "mixed")
    assert summary["failed"] == {}
    assert summary["ok"] + summary["left"] == summary["sent"] > 30


def test_longer_prompts_are_longer_for_a_real_tokenizer(vllm):
    """Half as long again by the server's own count, though its vocabulary is not the simulated one."""
    before, after = send(vllm), send(vllm, "--shift", "longer_prompts=1.5")
    assert (before["failed"], after["failed"]) == ({}, {})
    assert after["sent"] == before["sent"]
    assert after["input_tokens"] / before["input_tokens"] == pytest.approx(1.5, rel=0.15)
