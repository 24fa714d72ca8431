# The two commands: `make demo` and `make test`. Everything they need is installed from locked, hashed files.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := .venv/bin
ARGS ?=
RESULTS ?= .results
# Public research data for parity, training and some tests; where it is absent they skip and say so.
export ADJUVANT_DATA ?= $(realpath ../shared/data)

.PHONY: help setup setup-test demo test test-fast test-real lint bench parity train-setup test-train train train-image evaluate evidence chaos soak reliability lock peers clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

.venv/.runtime: requirements/runtime.txt pyproject.toml scripts/make-venv
	scripts/make-venv .venv requirements/runtime.txt
	touch $@

.venv/.test: .venv/.runtime requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/test.txt
	touch $@

setup: .venv/.runtime  ## build .venv with the `adjuvant` command

setup-test: .venv/.test

demo: setup  ## the service on a pretend hospital; make demo ARGS="--patients 12 --once --json"
	@$(BIN)/adjuvant demo $(ARGS)

peers: setup-test  ## install the real servers the tests use (Debian packages where permitted, HAPI through Maven)
	scripts/install-test-peers

lint: setup-test  ## ruff, mypy strict, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: peers lint  ## everything: lint, fast tests, tests on real servers
	$(BIN)/pytest -q -n 2 -m "not real" --junitxml=$(RESULTS)/fast.xml
	$(BIN)/pytest -q -m real --junitxml=$(RESULTS)/real.xml

test-fast: setup-test  ## no real servers, under a minute
	$(BIN)/pytest -q -n 2 -m "not real"

test-real: peers  ## only the tests on real servers
	$(BIN)/pytest -q -m real

parity: peers  ## all 763 HANCOCK patients through FHIR and HAPI against the training table
	$(BIN)/python -m benchmarks.parity --out docs/parity.md

bench: peers  ## speed bars as ratios measured in one run, written to docs/benchmarks.md; make bench ONLY="throughput poison"
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) --out docs/benchmarks.md

.venv-train/.done: requirements/train.txt scripts/make-venv
	scripts/make-venv .venv-train requirements/train.txt
	touch $@

train-setup: .venv-train/.done  ## a second environment with torch (5 GB), for training only

train: train-setup  ## train the shipped bundle again from ADJUVANT_DATA, some minutes
	.venv-train/bin/python -m training.fit --data "$(ADJUVANT_DATA)" --out inference/bundles/postoperative-ensemble-1.0.1 $(ARGS)

train-image: train-setup  ## train the demo's simulated image model again, some minutes; docs/image_branch.md
	.venv-train/bin/python -m training.simulated_images --out inference/bundles/postoperative-simulated-image-0.1.0 $(ARGS)

evaluate: train-setup  ## cross-validate against every baseline and write docs/evaluation.md, some hours on two cores
	.venv-train/bin/python -m training.evaluate --data "$(ADJUVANT_DATA)" $(ARGS)

evidence: train-setup  ## studies beside the shipped model: other cohorts, images, dynamics, treatment; docs/evaluation/
	.venv-train/bin/python -m training.studies --data "$(ADJUVANT_DATA)" --out docs/evaluation $(ARGS)

test-train: train-setup  ## tests of the training code
	.venv-train/bin/python -m pytest -q tests/training

SECONDS ?= 1800
soak: setup-test  ## the service at full speed: memory, files and disk must stay level; make soak SECONDS=60
	$(BIN)/python -m benchmarks.soak --seconds $(SECONDS) --verbose

CYCLES ?= 1000
SEED ?= 7
JOBS ?= 1
FAULTS ?= deaths
# In memory: what is proven is about killed processes, not about a disk that loses power.
chaos: setup-test  ## disturb the service by a seeded plan and judge what the servers hold: make chaos CYCLES=60 SEED=7
	TMPDIR=$(or $(wildcard /dev/shm),/tmp) $(BIN)/python -m tests.faults.chaos --cycles $(CYCLES) --seed $(SEED) --faults $(FAULTS) --jobs $(JOBS) --verbose $(ARGS)

reliability: setup-test  ## write what the last `make test` saw of every fault F-01 to F-50 to docs/reliability.md
	$(BIN)/python -m tests.faults.reliability --results $(RESULTS) --out docs/reliability.md

lock:  ## resolve the locked requirements again
	scripts/lock

clean:  ## remove what was built
	rm -rf .venv .venv-train build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/peers/hapi/target
