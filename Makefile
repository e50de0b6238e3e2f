# Targets set up .venv if they need it; that takes PYTHON, pip and this repository.

PYTHON ?= python3
ENGINE ?= docker
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# One stamp for each interpreter, so another PYTHON makes another environment.
TOOLS := $(VENV)/.tools$(subst /,-,$(PYTHON))
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-full run test test-real check bench image dist lock format clean

help: ## Show this list
	@echo 'make TARGET [PYTHON=python3.12] [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Run Telemetron with a small real multi-agent program, on loopback
	@$(BIN)/telemetron demo $(ARGS)

demo-full: $(READY) ## The same, with a LiteLLM proxy between the agents and their models
	@$(BIN)/telemetron demo --litellm "$$($(BIN)/python -m tests.real.litellm.proxy)" $(ARGS)

run: $(READY) ## Run only the server
	@$(BIN)/telemetron serve $(ARGS)

test: $(READY) ## Run the tests with branch coverage (ARGS: a part of them, without a threshold)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --ignore tests/real --numprocesses 3 --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

test-real: $(READY) ## Run the tests against real servers; builds and fetches them once
	$(BIN)/python -m tests.real.build
	$(REAL) -m 'not alone' --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS) || $(NONE)
	$(REAL) -m alone $(ARGS) || $(NONE)

check: $(READY) ## Check format, lint, types, rooms, docs and prose
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest --quiet tests/docs

bench: $(READY) ## Measure, and write bench/RESULTS.md (ARGS: names of groups)
	@$(BIN)/python -m bench $(ARGS)

image: ## Build the container image telemetron:VERSION (ENGINE=podman, ARGS="--build-arg BASE=...")
	$(ENGINE) build -f deploy/Dockerfile -t telemetron:$(VERSION) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(shell git rev-parse HEAD) $(ARGS) .

dist: $(READY) ## Build wheels and source archives of telemetron and telemetron-agent into dist/
	$(BIN)/python -m build --no-isolation --outdir dist sdk
	$(BIN)/python -m build --no-isolation --outdir dist .

lock: $(TOOLS) ## Update requirements/*.txt (ARGS=--upgrade for newer releases)
	$(BIN)/uv pip compile $(LOCK) --no-emit-package telemetron-agent pyproject.toml --output-file requirements/run.txt
	$(BIN)/uv pip compile $(LOCK) requirements/build.in --output-file requirements/build.txt
	$(BIN)/uv pip compile $(LOCK) requirements/mcp.in --output-file requirements/mcp.txt
	$(BIN)/uv pip compile $(LOCK) requirements/dev.in --output-file requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK) requirements/frameworks.in --output-file requirements/frameworks.txt
	$(BIN)/uv pip compile $(LOCK) requirements/litellm.in --output-file requirements/litellm.txt
	$(BIN)/uv pip compile $(LOCK:3.11=3.12) requirements/tokenizers.in --output-file requirements/tokenizers.txt

format: $(TOOLS) ## Format the code and fix lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) build dist sdk/dist htmlcov .coverage .coverage.* .hypothesis .schemathesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

REAL := $(BIN)/pytest -o asyncio_debug=true --durations 10 tests/real
# What pytest says of no test at all, as ARGS may name tests of one kind only.
NONE := [ $$? -eq 5 ]

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' telemetron/__init__.py)

LOCK := --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(ARGS)

$(TOOLS): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(READY): $(TOOLS) pyproject.toml sdk/pyproject.toml
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e sdk -e .
	@$(BIN)/pip check
	@touch $@
