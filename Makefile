# make demo and make test need Python >= 3.11 and make, and nothing else: they create .venv themselves, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint types imports tests smoke bench bench-further bench-sinks bench-reference bench-import bench-checkpoints proof proof-rate labs pictures docs clean bench-tab

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

demo: $(VENV)/.demo ## Train three small nets and see neurons die
	$(BIN)/deadneuron demo

test: lint types imports tests smoke ## Everything that CI checks

lint: $(VENV)/.dev ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Types
	$(BIN)/mypy deadneuron cli

imports: $(VENV)/.dev ## The order of rooms
	$(BIN)/lint-imports

tests: $(VENV)/.dev ## The tests
	$(BIN)/python -m pytest -n 2

smoke: $(VENV)/.dev ## Build the wheel and use it in a fresh environment
	.ci/smoke $(BIN)/python

bench: $(VENV)/.dev ## What watching costs, beside an unwatched loop (about 10 minutes)
	$(BIN)/python benchmarks/overhead.py --write

bench-further: $(VENV)/.dev ## The same for functional activations and compiled models (about 15 minutes)
	$(BIN)/python benchmarks/overhead.py --further --rounds 30 --write

bench-sinks: $(VENV)/.dev ## What a TensorBoard sink adds to that (about 2 minutes)
	$(BIN)/python benchmarks/sinks.py --write

bench-tab: $(VENV)/.dev ## How fast the tab of TensorBoard answers (about 3 minutes)
	$(BIN)/python benchmarks/tab.py --slow --write

bench-reference: $(VENV)/.dev ## What a reference batch costs (about 2 minutes)
	$(BIN)/python benchmarks/reference.py --write

bench-import: $(VENV)/.dev ## What `import deadneuron` costs
	$(BIN)/python benchmarks/importing.py --write

bench-checkpoints: $(VENV)/.dev ## What judging checkpoints costs: 1 GB, and a pair of 100 million parameters (about 5 minutes)
	$(BIN)/python benchmarks/checkpoints_cost.py --write

proof: $(VENV)/.dev ## Long matrices and fuzzing; results under docs/proof/
	$(BIN)/python benchmarks/proof.py
	$(BIN)/python benchmarks/proof_checkpoints.py

proof-rate: $(VENV)/.dev ## What ties deaths to the learning rate: causes, dither, branch, sweep (about 45 minutes)
	$(BIN)/python benchmarks/proof_causes.py
	$(BIN)/python benchmarks/proof_dither.py
	$(BIN)/python benchmarks/proof_branch.py
	$(BIN)/python benchmarks/proof_sweep.py

pictures: demo $(VENV)/.dev ## Make the pictures of the README in a real browser
	$(BIN)/python benchmarks/screenshots.py

labs: $(VENV)/.dev ## Run all labs and write their tables into docs/lab.md (a few minutes)
	$(BIN)/python benchmarks/labs.py

docs: demo $(VENV)/.dev ## Write the generated parts of README.md and docs/
	$(BIN)/python -m deadneuron.report.as_json > docs/diagnosis.schema.json
	$(BIN)/python -m deadneuron.report.difference_json > docs/difference.schema.json
	$(BIN)/python benchmarks/readme.py

clean: ## Remove what the other targets made, .venv too
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deadneuron needs Python 3.11 or later; say make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing deadneuron and torch into $(VENV), once"
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing deadneuron, torch and the development tools into $(VENV), once"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo
