# The workflow: CI runs the same targets. `make demo` and `make test` need Python 3.11+, git and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
LINE ?= .venv-line
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: help demo test check lint types docs torch-free clean
help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt tools/setup.py
	@$(PYTHON) tools/setup.py $(VENV)

$(LINE)/.ready: pyproject.toml constraints.txt tools/setup.py $(shell find src -name '*.py' 2>/dev/null)
	@$(PYTHON) tools/setup.py $(LINE) --line

demo: $(VENV)/.ready  ## the main job on images that the package draws; prints verdicts, metrics and the report's path
	@$(BIN)/andon demo

test: $(VENV)/.ready  ## every test, doctests included; one thread a process, since there are as many as cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --doctest-modules src tests

lint: $(VENV)/.ready  ## ruff: rules and format
	@$(BIN)/ruff check src tests benchmarks tools
	@$(BIN)/ruff format --check src tests benchmarks tools

types: $(VENV)/.ready  ## mypy
	@$(BIN)/mypy

docs: $(VENV)/.ready  ## the help texts in the docs are those of the program, links resolve
	@$(BIN)/python tools/docs.py --check
	@$(BIN)/python tools/methods_table.py --check

torch-free: $(VENV)/.ready $(LINE)/.ready  ## fit here, inspect in an environment without PyTorch
	@bash tools/torch_free.sh $(BIN) $(LINE)/bin

check: lint types docs test torch-free  ## what must be green before a commit

clean:  ## remove the environments and what tools left
	rm -rf $(VENV) $(LINE) .pytest_cache .mypy_cache .ruff_cache .hypothesis andon-demo build
