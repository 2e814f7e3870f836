# One machine, no cloud: every target does the set-up it needs. `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SCRIPTS = $(shell git ls-files '*.sh' .ci/run)

# What `make demo` takes; empty ones are left out.
DATA ?=
PARCELS ?=
ID ?=
CROP ?=
CROP_CODE ?=
DESCRIBE ?=
STAC ?=
COLLECTION ?=
BBOX ?=
START ?=
END ?=
AOI ?=
YEAR ?=
PORT ?=
# What `make test` and `make bench` take: pytest's options, ids such as P1,P5.
ARGS ?=
ONLY ?=

option = $(if $(strip $($(1))),--$(2) '$(strip $($(1)))')
DEMO_OPTIONS = $(call option,DATA,data) $(call option,PARCELS,parcels) $(call option,ID,id) \
    $(call option,CROP,crop) $(call option,CROP_CODE,crop-code) \
    $(call option,DESCRIBE,describe) $(call option,STAC,stac) \
    $(call option,COLLECTION,collection) $(call option,BBOX,bbox) $(call option,START,start) \
    $(call option,END,end) $(call option,AOI,aoi) $(call option,YEAR,year) \
    $(call option,PORT,port)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED) ## make .venv with the locked versions; install PostgreSQL and PostGIS if missing

.PHONY: packages
packages:
	@infra/standalone/packages.sh $(PYTHON)

$(INSTALLED): requirements/dev.lock pyproject.toml | packages
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing the locked Python packages into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    --requirement requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: setup ## from scenes and parcels to a REST API: synthetic, or DATA= PARCELS= [ID= DESCRIBE=], or STAC= ...
	@$(BIN)/python -m infra.standalone.demo up $(DEMO_OPTIONS)

.PHONY: demo-stop
demo-stop: setup ## stop the demo's API and database, keep its data
	@$(BIN)/python -m infra.standalone.demo stop

.PHONY: demo-clean
demo-clean: setup ## stop the demo and remove all it made
	@$(BIN)/python -m infra.standalone.demo clean

.PHONY: lint
lint: setup ## ruff, mypy, import-linter, yamllint, shellcheck
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/yamllint --strict .
	@$(BIN)/shellcheck $(SCRIPTS)

.PHONY: test
test: setup ## all tests, with a real PostGIS and a real S3; ARGS= goes to pytest
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: test-system-full
test-system-full: setup ## the system tests at full size: the whole demo, 100 killed workers
	@CBM_TEST_FULL=1 $(BIN)/python -m pytest tests/system $(ARGS)

.PHONY: bench
bench: setup ## measure against the gates, write build/bench.json; ONLY=P1,P5 picks
	@$(BIN)/python -m tests.benchmarks.bench $(if $(ONLY),--only $(ONLY))

.PHONY: lock
lock: setup ## resolve pyproject.toml anew into requirements/dev.lock
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	    --extra dev --output-file requirements/dev.lock pyproject.toml
