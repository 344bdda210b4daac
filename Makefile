# `make demo` shows it working, `make test` proves it. `make help` lists the rest.
# Everything is installed into .venv; PYTHON=... chooses the interpreter it is built from.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?=
CANDIDATES := $(PYTHON) python3.13 python3.12 python3.11 python3
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# Test files run in two processes, for most keep one core busy; those on the default model keep all, and run in one.
WORKERS := 2
IN_PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A name on PATH may be a shim that cannot run, or a Python without venv: only one that really works counts.
$(INSTALLED): pyproject.toml
	@if ! $(BIN)/python -c '$(SUITABLE)' 2>/dev/null; then \
	  for python in $(CANDIDATES); do \
	    if "$$python" -c '$(SUITABLE)' 2>/dev/null; then found="$$python"; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "no Python 3.11 to 3.13 with venv among: $(strip $(CANDIDATES))" >&2; \
	    echo "install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "creating $(VENV) with $$found"; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install -e '.[dev]'
	@touch $@

.PHONY: install
install: $(INSTALLED)  ## create .venv and install into it

.PHONY: demo
demo: model  ## install, fetch the default model, run EXP-001 and EXP-004 (quick), then agents that outlive a process
	$(BIN)/semantic experiment run EXP-001 EXP-004 --profile quick
	$(BIN)/python examples/three_agents.py

.PHONY: model
model: install  ## fetch the default model; a second time fetches nothing
	$(BIN)/semantic model fetch

.PHONY: lint
lint: install  ## style, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: lint model  ## lint and all tests
	$(BIN)/pytest $(IN_PARALLEL) -m "not model"
	$(BIN)/pytest -m model

.PHONY: test-fast
test-fast: install  ## the tests on fakes: no model, no MLX
	$(BIN)/pytest $(IN_PARALLEL) -m "not model and not zoo and not mlx"

.PHONY: architectures
architectures: install  ## run every architecture against mlx_lm and write docs/architectures.md
	cd tests && ../$(BIN)/python -m conformance.table

.PHONY: bench
bench: model  ## this engine and mlx_lm in turn, ratios printed; ARGS=... is handed on
	$(BIN)/python -m benchmarks.bench $(ARGS)

.PHONY: clean
clean:  ## remove .venv and what tools left behind; fetched models stay
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find semantic tests experiments benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
