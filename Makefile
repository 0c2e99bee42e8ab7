# make demo   the whole way on this machine: devices, agent, Kafka, processor, alerts, page
# make test   everything checked: style, types, borders between parts, and the tests on real servers
# See CONTRIBUTING.md for the rest. Needs Python 3.11 or later; everything else is fetched into .venv and ~/.cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is passed on: make demo ARGS="--devices 40", make test ARGS="tests/edge -x"
ARGS ?=
# Tests on several cores. Each worker has servers of its own, so there are never many; a browser that draws maps without
# a GPU wants a core for itself.
CORES := -n auto --maxprocesses 3 --dist loadfile
BROWSER := tests/browser tests/e2e
PACKAGES := protocols edge cloud firmware-sim cli benchmarks

.PHONY: help venv demo test test-full test-arm lint format bench assets kafka constraints wheel clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo "also: make test-full test-arm lint format bench assets constraints wheel clean"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Tidegate needs Python 3.11 or later, and $(PYTHON) is `$(PYTHON) -V 2>&1`: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot make virtual environments: on Debian, apt install python3-venv" >&2; exit 1; }

# Two installations: what the demo needs, and what work on it needs. The second holds the first.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints/full.txt
	@test -e $(VENV)/.dev || echo "Installing into $(VENV): once, a minute or two …"
	@test -e $(VENV)/.dev || $(BIN)/python -m pip install --quiet --constraint constraints/full.txt --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints/full.txt
	@echo "Installing into $(VENV): once, a minute or two …"
	@$(BIN)/python -m pip install --quiet --constraint constraints/full.txt --editable '.[dev,bench]'
	@touch $@ $(VENV)/.demo

venv: $(VENV)/.dev

assets: $(VENV)/.demo
	@$(BIN)/python -m tidegate_cloud.console.assets

kafka: $(VENV)/.demo
	@$(BIN)/tidegate broker --fetch-only

demo: $(VENV)/.demo
	@exec $(BIN)/tidegate demo $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy protocols edge cloud firmware-sim cli benchmarks/common.py
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: $(VENV)/.dev lint assets kafka
ifeq ($(ARGS),)
	$(BIN)/pytest $(CORES) $(BROWSER:%=--ignore=%)
	$(BIN)/pytest $(BROWSER)
else
	$(BIN)/pytest $(ARGS)
endif

# Minutes more: whole recordings, long random walks, and what needs root.
test-full: $(VENV)/.dev lint assets kafka
	$(BIN)/pytest -m '' $(ARGS)

bench: $(VENV)/.dev assets kafka
	@mkdir -p build/bench
	@set -e; for file in benchmarks/bench_*.py; do name=$$(basename $$file .py); \
	  PYTHONPATH=. $(BIN)/python $$file $(ARGS) --json build/bench/$$name.json; done

# Exact versions of everything, resolved anew. They hold no address: pip asks whatever index it is set up for.
constraints: $(VENV)/bin/python
	$(PYTHON) constraints/resolve.py edge edge
	$(PYTHON) constraints/resolve.py full demo dev bench

# The agent on emulated arm64: see tests/arm/run.sh for what it needs.
test-arm: wheel
	@tests/arm/run.sh "$$(ls -t dist/*.whl | head -1)"

wheel: $(VENV)/.dev assets
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
