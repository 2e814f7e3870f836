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

WEB := app/static/parcel.html

.PHONY: web
web: $(WEB) ## build the pages into app/static, with the libraries they load

$(WEB): $(wildcard app/web/*.json app/web/*.mjs app/web/pages/*)
	@infra/standalone/packages.sh $(PYTHON) npm
	@cd app/web && npm ci --silent && npm run --silent build

.PHONY: demo
demo: setup web ## from scenes and parcels to a REST API: synthetic, or DATA= PARCELS= [ID= DESCRIBE=], or STAC= ...
	@$(BIN)/python -m infra.standalone.demo up $(DEMO_OPTIONS)

.PHONY: demo-stop
demo-stop: setup ## stop the demo's API and database, keep its data
	@$(BIN)/python -m infra.standalone.demo stop

.PHONY: demo-clean
demo-clean: setup ## stop the demo and remove all it made
	@$(BIN)/python -m infra.standalone.demo clean

.PHONY: lint
lint: setup ## ruff, mypy, import-linter, yamllint, ansible-lint, shellcheck
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/yamllint --strict .
	@PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint
	@$(BIN)/shellcheck $(SCRIPTS)

.PHONY: test
test: setup web ## all tests, with a real PostGIS and a real S3; ARGS= goes to pytest
	@infra/standalone/packages.sh $(PYTHON) prometheus
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: test-browser
test-browser: setup web ## the pages in a headless Chromium; pictures in build/screenshots
	@infra/standalone/packages.sh $(PYTHON) chromium
	@$(BIN)/python -m pytest tests/browser $(ARGS)

.PHONY: test-system
test-system: setup web ## the appliance on bare hosts of this machine; CBM_INVENTORY= takes one that stands
	@$(BIN)/python -m pytest tests/appliance -m "not full" --timeout=1800 $(ARGS)

.PHONY: test-system-full
test-system-full: setup web ## at full size: the whole demo, 100 killed workers, backup and restore, upgrade
	@CBM_TEST_FULL=1 $(BIN)/python -m pytest tests/system $(ARGS)
	@$(BIN)/python -m pytest tests/appliance --timeout=3600 $(ARGS)

.PHONY: bench
bench: setup ## measure against the gates, write build/bench.json; ONLY=P1,P5 picks
	@$(BIN)/python -m tests.benchmarks.bench $(if $(ONLY),--only $(ONLY))

# One lock for developers, and one for each image and for the database host.
LOCKS = dev store app card extraction

.PHONY: lock
lock: setup ## resolve pyproject.toml anew into requirements/*.lock
	@for name in $(LOCKS); do \
	    PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --universal --python-version 3.11 \
	        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	        $$([ $$name = store ] || echo --extra $$name) \
	        --output-file requirements/$$name.lock pyproject.toml; done
	@for name in hub notebook; do \
	    PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --python-version 3.11 --generate-hashes \
	        --no-emit-index-url --no-emit-find-links --no-header --quiet \
	        $$([ $$name = notebook ] || echo --no-emit-package onetimepass) \
	        --output-file requirements/$$name.lock requirements/$$name.in; done

# What `make inventory` takes: the stack, and the private key if ssh-agent does not hold it.
STACK ?=
IDENTITY ?=

.PHONY: inventory
inventory: setup ## write inventory/STACK/ for Ansible and ssh from what Pulumi made; STACK=nl
	@$(BIN)/python -m infra.inventory $(STACK) $(if $(IDENTITY),--identity '$(IDENTITY)')

# Where the bed of hosts keeps its image and its labs.
HOSTS_CACHE ?= /var/cache/lab-hosts
export HOSTS_CACHE

# Where the tools of infra/ are kept on this machine; they are built or fetched where missing.
PULUMI_PREFIX ?= /opt/pulumi
export PULUMI_PREFIX

.PHONY: bed-openstack
bed-openstack: setup ## a real OpenStack control plane on loopback, with real hosts in zone `hosts`
	@$(BIN)/python -m tests.beds.openstack.bed up --hosts

.PHONY: bed-openstack-down
bed-openstack-down: setup ## stop it, keep its state
	@$(BIN)/python -m tests.beds.openstack.bed down

.PHONY: bed-hosts
bed-hosts: setup ## Debian hosts with systemd for Ansible, without a cloud
	@tests/beds/hosts/up
	@tests/beds/hosts/base
	@$(BIN)/python -m tests.beds.hosts.inventory $(HOSTS_CACHE)/lab

.PHONY: bed-hosts-down
bed-hosts-down: ## remove them
	@tests/beds/hosts/down

.PHONY: tools
tools: setup ## Pulumi's official command line and OpenStack plugin, by their own installer
	@tests/beds/pulumi/fetch $(PULUMI_PREFIX) $(BIN)/python

.PHONY: bed-pulumi
bed-pulumi: setup ## the same, built from package registries alone
	@tests/beds/pulumi/build $(PULUMI_PREFIX) $(BIN)/python

.PHONY: appliance
appliance: bed-openstack bed-pulumi ## a whole appliance on the bed: pulumi up, site.yml, demo data, a query over TLS
	@tests/beds/hosts/base
	@$(BIN)/python -m tests.beds.openstack.appliance up

.PHONY: appliance-rebuild
appliance-rebuild: setup ## take it down but for its kept volumes, stand it up again, compare all rows
	@$(BIN)/python -m tests.beds.openstack.appliance rebuild

.PHONY: appliance-destroy
appliance-destroy: setup ## take it down, its volumes too
	@$(BIN)/python -m tests.beds.openstack.appliance destroy

.PHONY: test-infra
test-infra: bed-openstack bed-pulumi ## infra/ against a real OpenStack API; ARGS= goes to pytest
	@$(BIN)/python -m pytest tests/infra -m "not full" $(ARGS)

.PHONY: test-infra-full
test-infra-full: bed-openstack bed-pulumi ## the same with what takes long: 20 workers, every API down
	@$(BIN)/python -m pytest tests/infra $(ARGS)
