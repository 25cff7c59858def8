# Everything a developer or the CI runs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
ARGS ?=

export UV_PROJECT_ENVIRONMENT := $(VENV)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench performance chaos soak reliability clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d; run: make PYTHON=python3.12 ..." % v)'
	@echo "Setting up $(VENV) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check uv

# --inexact: uv itself lives in the environment and must stay there
$(STAMP): uv.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv sync --frozen --inexact --all-extras
	@touch $@

setup: $(STAMP) ## Make the environment (.venv) with everything in it

demo: $(STAMP) ## Start the embedded stack and ask it real questions
	@$(BIN)/edgeward demo $(ARGS)

test: $(STAMP) ## Run every test; ARGS='tests/placement -k home' for some
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## Lint, format, types, import directions, wheel contents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_wheel.py

format: $(STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## List the benchmarks; BENCH=NAME runs one
	@$(BIN)/python -m bench $(BENCH) $(ARGS)

performance: $(STAMP) ## Write docs/performance.md from the results of the benchmarks
	@$(BIN)/python -m bench.performance $(ARGS)

chaos: $(STAMP) ## Break a real fleet and count what became of the runs; SCENARIO=NAME SEED=N
	@$(BIN)/python -m bench.chaos $(SCENARIO) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(STAMP) ## Half load for half an hour: memory, sockets, stuck runs; DURATION=MINUTES
	@$(BIN)/python -m bench.chaos.soak $(if $(DURATION),--minutes $(DURATION)) $(ARGS)

reliability: $(STAMP) ## Write what chaos and soak measured into docs/reliability.md
	@$(BIN)/python -m bench.chaos.page $(ARGS)

clean: ## Remove what was made here: environment, caches, results, the stack's state
	rm -rf $(VENV) .edgeward .hypothesis .pytest_cache .ruff_cache bench/out dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
