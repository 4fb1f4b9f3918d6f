# The commands of the project. `make` alone lists them.
# A virtual environment is made in .venv once, and again when the pinned packages change.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV ?= .venv
BIN := $(VENV)/bin
PINS := pyproject.toml ops/requirements/constraints.txt
ARGS ?=

.PHONY: help setup servers browser demo test check bench clean

help: ## Show these commands.
	@echo "Relevance Loop: search and ads relevance, kept fresh by live traffic."
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done
	@echo
	@echo "ARGS adds options, e.g. make demo ARGS='--minutes 5', make test ARGS='-k replay -x'."

setup: ## Make the virtual environment with the pinned packages.
	@ops/requirements/install.sh "$(VENV)" $(PINS)

servers: setup
	@$(BIN)/relevance teacher serve --prepare

browser: setup
	@ops/requirements/browser.sh

demo: setup ## Start everything with simulated traffic and watch two arms part; Ctrl-C stops.
	@exec $(BIN)/relevance demo $(ARGS)

test: setup servers browser ## Run all tests, unit and integration.
	@exec $(BIN)/python -m pytest $(ARGS)

check: setup ## Lint, formatting, types.
	@echo "ruff check"; $(BIN)/ruff check .
	@echo "ruff format --check"; $(BIN)/ruff format --check .
	@echo "mypy"; $(BIN)/mypy

bench: setup ## Measure throughput, recovery and statistics; takes a while.
	@exec $(BIN)/python -m ops.bench $(ARGS)

clean: ## Remove the environment, caches and build output; the run directory stays.
	rm -rf "$(VENV)" build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
