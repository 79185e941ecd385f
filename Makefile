# One target per verb; `make help` is the table of contents.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1

help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  %-16s %s\n", $$1, $$2}'

# --- environment -----------------------------------------------------------------------------------
setup: $(VENV)/.installed ## Make .venv with everything, pinned by hash

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	$(PYTHON) dev/setup.py $(VENV)
	@touch $@

lock: ## Resolve pyproject.toml into requirements/*.txt again
	$(PYTHON) dev/setup.py --lock

# --- the two commands of the README -----------------------------------------------------------------
demo: setup model dataset ## Cluster, images, chart, one FineTuneJob with a SIGKILL in the middle
	$(BIN)/python -m dev.demo

test: check test-unit test-integration test-cluster ## Everything: checks, unit, integration, cluster

# --- tests -------------------------------------------------------------------------------------------
check: setup ## Format, lint, types, layers, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m finetune_operator.api.crd --check crds

test-unit: setup binaries ## Pure tables, properties and the tiny-model trainer
	$(BIN)/pytest tests/unit --numprocesses auto --dist worksteal

test-integration: setup binaries ## The operator against a real etcd and kube-apiserver
	$(BIN)/pytest tests/integration

test-cluster: setup ## Real pods on the local cluster
	$(BIN)/pytest tests/cluster

# --- things that are made ----------------------------------------------------------------------------
generate: setup ## Write crds/ and the chart's copies from the models
	$(BIN)/python -m finetune_operator.api.crd --write crds

format: setup ## Rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

model: setup ## SmolLM2-135M-Instruct under .cache/models
	$(BIN)/python -m dev.demo.model

dataset: model ## Question/answer pairs from the standard library's docstrings under .cache/datasets
	$(BIN)/python -m dev.demo.dataset

binaries: ## Build Kubernetes, etcd, CoreDNS and helm from pinned Go modules
	$(PYTHON) -m dev.cluster binaries

# --- the local cluster -------------------------------------------------------------------------------
cluster-up: ## Start the local Kubernetes (CLUSTER_NAME, NODES)
	$(PYTHON) -m dev.cluster up

cluster-down: ## Stop it
	$(PYTHON) -m dev.cluster down

cluster-status: ## Show it
	$(PYTHON) -m dev.cluster status

# `binaries` decides by itself, in milliseconds, whether anything is left to build.
.PHONY: help setup lock demo test check test-unit test-integration test-cluster generate format model dataset binaries cluster-up cluster-down cluster-status
