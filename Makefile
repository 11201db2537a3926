# What a newcomer types. Everything is made in .venv and build/.

# A Python between 3.10 and 3.12 that can make a virtual environment.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
PIP_FLAGS ?=
BIN := .venv/bin
DRAWS ?= 10
SHOTS ?= 2,4,8
MAGNETIC_TILE ?=
PACKAGE := build/packages/efficientnet-lite2

.PHONY: help demo test lint bench bench-detection bench-gateways chaos endurance clean
help:
	@echo "make demo             the main job on real pictures (first time: a few minutes, mostly installing)"
	@echo "make test             the test suite"
	@echo "make lint             ruff, mypy --strict, import-linter"
	@echo "make bench            latency against the bare encoder          -> build/bench/latency.json"
	@echo "make bench-detection  detection quality and claims (DRAWS=10 SHOTS=2,4,8"
	@echo "                      MAGNETIC_TILE=folder of that set)            -> build/bench/detection.json"
	@echo "make chaos            100,000 parts while everything goes wrong  -> build/bench/chaos.json"
	@echo "make endurance        a million verdicts: memory and disk flat   -> build/bench/endurance.json"
	@echo "make bench-gateways   10,000 verdicts to a Modbus and an OPC UA PLC -> build/bench/gateways.json"
	@echo "make clean            remove .venv and build"

.venv/.python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.12 with venv was found. apt-get install python3-venv, or make PYTHON=/path/to/python." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.demo: .venv/.python pyproject.toml
	@echo "installing into .venv; PyTorch is the large part"
	$(BIN)/python -m pip install $(PIP_FLAGS) --disable-pip-version-check -e '.[export,demo]'
	@touch $@

.venv/.dev: .venv/.demo pyproject.toml
	$(BIN)/python -m pip install $(PIP_FLAGS) --disable-pip-version-check -e '.[export,demo,gateways,dev]'
	@touch $@

demo: .venv/.demo
	$(BIN)/python -m deploy.demo.run

$(PACKAGE)/package.json: .venv/.demo $(wildcard export/*.py export/encoders/*.py) edge/bank.py
	$(BIN)/linegate export efficientnet-lite2 --out $(PACKAGE) --force

test: .venv/.dev
	$(BIN)/python -m pytest

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev $(PACKAGE)/package.json
	$(BIN)/python -m tests.bench.latency --model $(PACKAGE) --out build/bench/latency.json

bench-detection: .venv/.dev $(PACKAGE)/package.json
	$(BIN)/python -m tests.bench.detection --model $(PACKAGE) --draws $(DRAWS) --shots $(SHOTS) \
		$(if $(MAGNETIC_TILE),--magnetic-tile "$(MAGNETIC_TILE)") --out build/bench/detection.json

# An independent listener takes part if Node.js is there.
chaos: .venv/.dev $(PACKAGE)/package.json
	@! command -v npm >/dev/null || npm install --prefix tests/peers/node --no-audit --no-fund --silent
	$(BIN)/python -m tests.bench.chaos.run --model $(PACKAGE) --out build/bench/chaos.json

endurance: .venv/.dev
	$(BIN)/python -m tests.bench.endurance --out build/bench/endurance.json

# The PLCs are independent programs: a C program on libmodbus, and node-opcua.
bench-gateways: .venv/.dev
	@! command -v npm >/dev/null || npm install --prefix tests/peers/node --no-audit --no-fund --silent
	$(BIN)/python -m tests.bench.gateways.run --out build/bench/gateways.json

clean:
	rm -rf .venv build
