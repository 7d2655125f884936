# The two commands are `make run` and `make test`; neither needs root. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := 0.13.9
STAMP  := $(VENV)/.installed

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

.PHONY: help install run test unit stack chaos bench bench-peers soak lint dashboards reference lock lock-stack clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## make the environment in .venv

run: $(STAMP) ## the demo: simulated upstream, sidecar, traffic, then a shift
	@$(BIN)/driftline demo

test: $(STAMP) ## everything that can be tested on this machine
	@$(BIN)/pytest

stack: $(STAMP) ## the real components that tests/stack/ starts, in a cache outside the checkout
	@$(BIN)/python -m scripts.stack

chaos: $(STAMP) ## kill the sidecar's processes and its upstream under load for ten minutes; CHAOS="--seconds 60 --seed 7"
	@$(BIN)/python -m chaos $(CHAOS)

bench: $(STAMP) ## CPU, latency and memory beside nginx and others; BENCH=--quick for a short look
	@$(BIN)/python -m benchmarks $(BENCH)

# Environments of their own, as their requirements are not ours.
BENCH_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/driftline
bench-peers: $(STAMP) ## vllm-router, LiteLLM and Portkey for make bench, in a cache outside the checkout
	@$(BIN)/uv venv --quiet --clear $(BENCH_CACHE)/vllm-router-0.1.17
	@$(BIN)/uv pip install --quiet --python $(BENCH_CACHE)/vllm-router-0.1.17/bin/python vllm-router==0.1.17
	@$(BIN)/uv venv --quiet --clear $(BENCH_CACHE)/litellm-1.106.2
	@$(BIN)/uv pip install --quiet --python $(BENCH_CACHE)/litellm-1.106.2/bin/python 'litellm[proxy]==1.106.2'
	@if command -v npm >/dev/null; then npm install --silent --no-fund --no-audit --ignore-scripts \
		--prefix $(BENCH_CACHE)/portkey-1.15.2 @portkey-ai/gateway@1.15.2; \
	else echo "Portkey is missing: it needs npm and Node 20"; fi
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || echo "nginx is missing: apt-get install nginx-light"

soak: $(STAMP) ## a million requests through the sidecar; exits 1 where its memory grows; SOAK="--requests 100000"
	@$(BIN)/python -m benchmarks.soak $(SOAK)

lint: $(STAMP) ## ruff, mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

dashboards: $(STAMP) ## generate dashboards, alert rules and provisioning from grafana/definition/
	@$(BIN)/python -m grafana.generate

reference: $(STAMP) ## generate what docs/ says of settings, commands, metrics and features from the code
	@$(BIN)/python -m scripts.reference

lock: $(STAMP) ## resolve requirements.lock anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
		--group dev pyproject.toml --output-file requirements.lock

lock-stack: $(STAMP) ## resolve the vLLM environment of make stack anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
		--override scripts/stack/vllm.overrides scripts/stack/vllm.in --output-file scripts/stack/vllm.lock

clean: ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
