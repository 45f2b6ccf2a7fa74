# Shopfleet needs Python 3.11 or newer, make and the package index. Everything lives in .venv and .fleet.
PYTHON ?= python3
BIN := .venv/bin
# Recipes run under the environment of this checkout, never under one that happens to be active.
export VIRTUAL_ENV := $(CURDIR)/.venv
# Tests, demo and benchmarks start hundreds of Python processes: compiled modules are kept (git ignores them).
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
# A switch is on unless it is empty, 0, no or false.
is_on = $(filter-out 0 no false,$(1))
# A misspelled variable is an error: make itself would ignore it.
VARIABLES := PYTHON EXIT AUTO_PORTS SANDBOX JOBS
UNKNOWN := $(filter-out $(VARIABLES),$(foreach each,$(MAKEOVERRIDES),$(firstword $(subst =, ,$(each)))))
$(if $(UNKNOWN),$(error $(UNKNOWN): no such variable. There are $(VARIABLES)))
.PHONY: help setup demo up test test-installation lint format types trace bench chaos lock clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shopfleet needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Makes .venv and installs the locked dependencies: a few minutes without output the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/ready ## Make .venv with the locked dependencies

demo: setup ## Simulate a day of four shops (EXIT=1 stops by itself and checks)
	$(BIN)/fleet demo $(if $(call is_on,$(EXIT)),--exit)

up: setup ## Run an empty fleet until Ctrl-C (AUTO_PORTS=1: free ports for taken ones; SANDBOX=1: simulated providers)
	$(BIN)/fleet up $(if $(call is_on,$(AUTO_PORTS)),--auto-ports) $(if $(call is_on,$(SANDBOX)),--sandbox)

test: setup ## Run the whole suite against real PostgreSQL, Valkey and workers
	$(BIN)/python -m pytest -n $(or $(JOBS),4) --dist loadgroup --ignore tests/installation tests

test-installation: setup ## Run against the servers of Debian's packages, and docs/production.md as written
	$(BIN)/python -m pytest -q -n $(or $(JOBS),4) --dist loadfile --no-loadscope-reorder tests/installation

lint: setup ## Check style, types, who imports whom, and duplicated code (there is none)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pylint services tasks beat_schedule.py

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

trace: setup ## Print the files that one order runs through, from the request to its rows
	$(BIN)/python -m pytest -q -s tests/ingress/test_files_for_one_order.py

bench: setup ## Measure beside plain Celery and other queues; results go to docs/benchmarks
	-$(BIN)/python -m benchmarks.setup_peers
	$(BIN)/python -m benchmarks.run all

chaos: setup ## Stop processes and empty the broker under load, and check that nothing was lost
	$(BIN)/python -m tests.chaos

lock: ## Update the pinned dependencies (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --extra embedded --extra dev pyproject.toml -o requirements-dev.txt

clean: ## Remove .venv and the embedded fleet's state
	rm -rf .venv .fleet
