# Every target does its own set-up in .venv; nothing outside this folder is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo bench test lint types layers unit coverage fuzz simulate chaos soak gpu golden clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/ready  ## the main job: three workloads, emulated near their data, compared with DuckDB
	$(BIN)/wherry demo

bench: $(VENV)/ready  ## the kernels against DuckDB, Polars, DataFusion, Acero and the memory, all measured; minutes
	$(BIN)/wherry bench kernels

test: lint types layers unit fuzz  ## everything CI runs

lint: $(VENV)/ready  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready  ## mypy --strict on src
	$(BIN)/mypy

layers: $(VENV)/ready  ## imports run one way
	$(BIN)/lint-imports

# Two processes: most tests keep one core busy, and those of conformance are half of them.
unit: $(VENV)/ready  ## the tests
	@$(BIN)/python -m pytest tests/conformance -p no:cacheprovider >$(VENV)/conformance.log 2>&1 & \
	first=$$!; trap "kill $$first" INT TERM; \
	$(BIN)/python -m pytest --ignore=tests/conformance; second=$$?; \
	wait $$first; first=$$?; cat $(VENV)/conformance.log; exit $$((first + second))

coverage: $(VENV)/ready  ## the tests, half as fast again, and which branches they take
	$(BIN)/python -m pytest --cov --cov-report=term

CASES ?= 100000
SEED ?= 1
fuzz: $(VENV)/ready  ## corrupted files and hostile bytes for every reader and listener: `make fuzz CASES=1000000 SEED=2`
	PYTHONPATH=tests $(BIN)/python -m fuzz --cases $(CASES) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m support.parquet_damage $(SEED) $(CASES)
	PYTHONPATH=tests $(BIN)/python -m fuzz.messages --cases $(CASES) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m fuzz.agent --cases $$(($(CASES) / 50)) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m fuzz.plans --cases $(CASES) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m fuzz.listeners --strings $(CASES) --seed $(SEED)

SEEDS ?= 100000
simulate: $(VENV)/ready  ## schedules of faults over the protocol, on all cores, then its mutants: `make simulate SEEDS=1000000`
	$(BIN)/python -m wherry.sim.faults --seeds $(SEEDS) --seed $(SEED)

ROUNDS ?= 500
chaos: $(VENV)/ready  ## agents as processes, killed, stopped, cut off and starved under load: `make chaos ROUNDS=100 SEED=2`
	PYTHONPATH=tests $(BIN)/python -m chaos --rounds $(ROUNDS) --seed $(SEED)

soak: $(VENV)/ready  ## long: 10,000 new random programs and pipelines of each kind; prints how many ran and what failed
	$(BIN)/python -m pytest tests/conformance --hypothesis-profile=soak --hypothesis-show-statistics

# GPU_PYTHON: of a host that has the packages and no network; then nothing is installed.
GPU_PYTHON ?=
gpu: $(if $(GPU_PYTHON),,$(VENV)/gpu)  ## on a CUDA host: the tests that need a card, compute-sanitizer, `wherry bench gpu`
	PYTHONPATH=tests:$$PYTHONPATH $(or $(GPU_PYTHON),$(BIN)/python) -m gpu $(GPU_OPTIONS)

$(VENV)/gpu: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[dev,gpu]'
	touch $@

golden: $(VENV)/ready  ## rewrite the golden texts; read the diff before you commit it
	$(BIN)/python -m pytest tests/golden --update-golden

clean:  ## remove what the targets above made
	rm -rf $(VENV) data .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
