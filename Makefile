# Two commands for a new machine: `make demo`, `make test`. All else is for who works on the code.
# Needs python3 (3.11 or newer), make and git; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ready := $(VENV)/.ready
ready_dev := $(VENV)/.ready-dev
ready_training := $(VENV)/.ready-training
engines := $(VENV)/engines
ready_engines := $(engines)/.ready
ready_builder := $(engines)/.ready-builder

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs bench demo-model clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(ready)  ## set up, start a server, ask the demo model a question
	@$(BIN)/python tools/demo.py

# TRAINING=1: with the tests of the training. ENGINES=1: with those of engines that are installed for it, 1.6 GB once.
test: check $(if $(TRAINING),$(ready_training)) $(if $(ENGINES),$(ready_engines))  ## set up, then every check and test
	$(BIN)/coverage erase
	$(if $(ENGINES),UML_TEST_ENGINES=$(abspath $(engines))) $(BIN)/pytest -n auto --cov --cov-report= --durations=10
	$(BIN)/python tools/coverage_floors.py

check: $(ready_dev)  ## format, lint, types, floors
	$(BIN)/ruff format --check src tests tools benchmarks examples
	$(BIN)/ruff check src tests tools benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(ready_dev)  ## put the code in its form
	$(BIN)/ruff format src tests tools benchmarks examples
	$(BIN)/ruff check --fix src tests tools benchmarks examples

docs: $(ready_dev)  ## write the pages that are generated from the code
	$(BIN)/python -m tools.docs

bench: $(ready_dev)  ## measure: every table of docs/performance.md
	$(BIN)/python -m benchmarks

demo-model: $(ready_training) $(if $(ENGINES),$(ready_builder))  ## train the demo model and all that comes with it, and put it into the package: an hour and a half; ENGINES=1 scores ONNX too
	$(BIN)/python -m tools.demo_model.make build/demo-model --ship src/uml/models $(if $(ENGINES),--engines $(engines))

clean:  ## remove what was built here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build dist

$(ready): pyproject.toml tools/setup_venv.sh
	@sh tools/setup_venv.sh "$(PYTHON)" $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(ready_dev): $(ready)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

# torch first and alone: what else is installed must not choose its build.
$(ready_training): $(ready_dev)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group demo-model
	@touch $@

# Anew when what they are made of changes.
$(ready_engines): src/uml/engines/recipes.py | $(ready_dev)
	rm -rf $(engines)
	UML_DATA=$(abspath $(engines)) $(BIN)/uml engine install transformers
	UML_DATA=$(abspath $(engines)) $(BIN)/uml engine install onnx
	@touch $@

$(ready_builder): $(ready_engines)
	UML_DATA=$(abspath $(engines)) $(BIN)/uml engine install onnx-builder
	@touch $@
