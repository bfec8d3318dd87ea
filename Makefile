# make test: everything that must hold.  make demo: a simulated night, from raw frames to stacks.
# JOBS=1: the tests one after the other, not two files at a time.
# make torture: everything killed, filled, stopped at every moment, on both databases; 20 to 30 minutes, and a report.
# make soak: a day of 50,000 frames in time-lapse, and what runs meanwhile; an hour or two, and its curve into docs/.
# make peers: how the programs of the field that are installed take what we write, into docs/peers.md; fails where that changed.
# make bench: measured beside the programs that people use today, into docs/; ONLY=combine: one part; QUICK=1: on little.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
DEMO   ?= demo
JOBS   ?= 2
TORTURE ?= torture.md
SOAK   ?= 50000
READY   = $(VENV)/.ready
PLOTS   = $(VENV)/.ready-bench
PEERS   = $(VENV)/.ready-peers

# Where it is set, each of the many commands that are started here would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: env test lint types tests torture soak demo bench peers clean

env: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m ccdflow.warmup
	touch $@

test: lint types tests

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(READY)
	$(BIN)/mypy

tests: $(READY)
	$(BIN)/pytest tests --numprocesses $(JOBS) --dist loadfile

torture: $(READY)
	CCDFLOW_TORTURE_REPORT=$(TORTURE) $(BIN)/pytest tests/flows/faults tests/flows/test_two_machines.py tests/flows/test_secrets.py \
		-m 'torture or not torture' --timeout 900

demo: $(READY)
	$(BIN)/python -m ccdflow.demo $(DEMO)

$(PLOTS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m ccdflow.warmup
	touch $@

soak: $(PLOTS)
	$(BIN)/python -m bench.soak --frames $(SOAK) --picture docs/images/soak.png

bench: $(PLOTS)
	$(BIN)/python -m bench $(ONLY) $(if $(QUICK),--quick,$(if $(ONLY),,--docs docs))

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,peers]'
	touch $@

peers: $(PEERS)
	$(BIN)/python -m bench.peertable --page docs/peers.md

clean:
	rm -rf $(VENV) $(DEMO) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
