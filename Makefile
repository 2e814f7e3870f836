# One machine, no cloud: every target does the set-up it needs. `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# By their first line, whatever they are called; Ansible's templates are no shell yet.
SCRIPTS = $(sort $(shell git ls-files '*.sh'; git grep -lE '^\#!.*\b(ba|da)?sh$$' -- ':!*.j2' ':!*.py'))

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
	@standalone/packages.sh $(PYTHON)

$(INSTALLED): requirements/dev.lock pyproject.toml | packages
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing the locked Python packages into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    --requirement requirements/dev.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --editable .
	@touch $@

WEB := app/static/parcel.html

.PHONY: web
web: $(WEB) ## build the pages into app/static, with the libraries they load

$(WEB): $(wildcard app/web/*.json app/web/*.mjs app/web/pages/*)
	@standalone/packages.sh $(PYTHON) npm
	@cd app/web && npm ci --silent && npm run --silent build

.PHONY: guide
guide: setup ## build the guide into app/guide, served at /guide; every warning is an error
	@$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs app/guide
	@echo "app/guide/index.html"

# A bill of materials of each image and of the pages; and what is publicly known against them.
SHIPPED = store app card extraction

.PHONY: sbom
sbom: setup ## a CycloneDX bill of materials of each image and the pages, in build/sbom
	@mkdir -p build/sbom
	@for name in $(SHIPPED); do \
	    $(BIN)/cyclonedx-py requirements requirements/$$name.lock --pyproject pyproject.toml \
	        --output-reproducible --of JSON --output-file build/sbom/$$name.json; done
	@cd app/web && npm sbom --sbom-format cyclonedx --package-lock-only >../../build/sbom/pages.json
	@ls build/sbom/*.json

.PHONY: check-vulnerabilities
check-vulnerabilities: setup ## what is publicly known against the locked packages; needs the internet
	@for name in $(SHIPPED); do \
	    $(BIN)/pip-audit --strict --disable-pip --no-deps --requirement requirements/$$name.lock; done

.PHONY: guide-links
guide-links: setup ## check the guide's links to other sites, where the internet is reached
	@$(BIN)/python -m sphinx -q -b linkcheck docs build/guide-links

.PHONY: demo
demo: setup web guide ## from scenes and parcels to a REST API: synthetic, or DATA= PARCELS= [ID= DESCRIBE=], or STAC= ...
	@$(BIN)/python -m standalone.demo up $(DEMO_OPTIONS)

.PHONY: demo-stop
demo-stop: setup ## stop the demo's API and database, keep its data
	@$(BIN)/python -m standalone.demo stop

.PHONY: demo-clean
demo-clean: setup ## stop the demo and remove all it made
	@$(BIN)/python -m standalone.demo clean

.PHONY: lint
lint: setup ## ruff, mypy, import-linter, yamllint, ansible-lint, shellcheck, hadolint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/yamllint --strict .
	@PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint
	@$(BIN)/shellcheck --external-sources $(SCRIPTS)
	@$(BIN)/hadolint Dockerfile

# Of the tests on this machine alone, each worker has a PostGIS and an S3 server of its own. Many wait for
# clocks: three workers keep two cores busy.
PARALLEL ?= -n 3 --dist loadfile

.PHONY: test
test: setup web ## tests/unit, integration and standalone, with a real PostGIS and S3; ARGS= goes to pytest
	@standalone/packages.sh $(PYTHON) prometheus ogr2ogr
	@$(BIN)/python -m pytest $(PARALLEL) -m "not full" $(ARGS)

.PHONY: test-full
test-full: setup web ## the same with what takes long and at full size: the whole demo, notebooks, 100 kills
	@standalone/packages.sh $(PYTHON) prometheus ogr2ogr
	@CBM_TEST_FULL=1 $(BIN)/python -m pytest $(PARALLEL) --timeout=3600 $(ARGS)

.PHONY: test-unit
test-unit: setup ## tests/unit alone
	@standalone/packages.sh $(PYTHON) prometheus
	@$(BIN)/python -m pytest $(PARALLEL) -m "not full" tests/unit $(ARGS)

.PHONY: test-integration
test-integration: setup web ## tests/integration alone
	@$(BIN)/python -m pytest $(PARALLEL) -m "not full" tests/integration $(ARGS)

.PHONY: test-standalone
test-standalone: setup web ## tests/standalone alone: the demo, killed workers
	@$(BIN)/python -m pytest $(PARALLEL) -m "not full" tests/standalone $(ARGS)

.PHONY: test-browser
test-browser: setup web ## tests/browser: the pages in a headless Chromium; pictures in build/screenshots
	@standalone/packages.sh $(PYTHON) chromium
	@$(BIN)/python -m pytest tests/browser $(ARGS)

.PHONY: test-appliance
test-appliance: setup web ## tests/appliance: bare hosts of this machine; CBM_INVENTORY= takes one that stands
	@$(BIN)/python -m pytest tests/appliance -m "not full" --timeout=1800 -o timeout_func_only=true $(ARGS)

.PHONY: test-appliance-full
test-appliance-full: setup web ## the same with what breaks hosts: backup and restore, upgrade
	@$(BIN)/python -m pytest tests/appliance --timeout=3600 -o timeout_func_only=true $(ARGS)

.PHONY: test-attack
test-attack: setup ## tests/attack: hostile clients, files, metadata and statements; a table, also in build/attack.json
	@$(BIN)/python -m pytest tests/attack -m "not full" $(ARGS)

.PHONY: test-attack-full
test-attack-full: setup ## the same with 5,000 damaged products and all attacks at once; writes the guide's table
	@CBM_TEST_FULL=1 $(BIN)/python -m pytest tests/attack --timeout=1800 $(ARGS)
	@$(BIN)/python -m tests.attack.page

# Rounds of ever new examples until the time is over; what fails is kept in .hypothesis and tried first.
MINUTES ?= 10

.PHONY: fuzz
fuzz: setup ## damaged names, XML, orbit files, manifests, answers, codestreams for MINUTES=10; short in make test
	@end=$$((SECONDS + 60 * $(MINUTES))); while [ $$SECONDS -lt $$end ]; do \
	    CBM_FUZZ_EXAMPLES=4 $(BIN)/python -m pytest tests/unit/test_fuzz_*.py -q -x $(ARGS); done

.PHONY: bench
bench: setup ## measure against the gates, write build/bench.json; ONLY=P1,P5 picks
	@$(BIN)/python -m tests.benchmarks.bench $(if $(ONLY),--only $(ONLY))

.PHONY: schema
schema: setup ## write store/sql/schema.sql, today's schema in one readable file, after a new migration
	@$(BIN)/python -m tests.beds.postgis.schema

# One lock for developers, one for each image and for the database host; and those of .in files:
# beds, build tools, the JRC's client, and (for Debian 12's Python alone) the hub and its notebooks.
LOCKS = dev store app card extraction
HOST_LOCKS = hub notebook
LOCKS_IN = $(filter-out $(HOST_LOCKS),$(patsubst requirements/%.in,%,$(wildcard requirements/*.in)))
UV_LOCK = PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-header --quiet

.PHONY: lock
lock: setup ## resolve pyproject.toml and requirements/*.in into requirements/*.lock
	@for name in $(LOCKS); do \
	    $(UV_LOCK) --universal --python-version 3.11 \
	        $$([ $$name = store ] || echo --extra $$name) \
	        --output-file requirements/$$name.lock pyproject.toml; done
	@for name in $(LOCKS_IN); do \
	    $(UV_LOCK) --universal --python-version 3.11 \
	        --output-file requirements/$$name.lock requirements/$$name.in; done
	@for name in $(HOST_LOCKS); do \
	    $(UV_LOCK) --python-version 3.11 \
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

.PHONY: bed-image
bed-image: setup web ## keep a prepared image for the bed's hosts: labs of test-appliance boot from it while it fits
	@tests/beds/hosts/base
	@$(BIN)/python -m tests.beds.hosts.prepared

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

.PHONY: drill
drill: bed-openstack bed-pulumi ## an appliance up, down and up again with the same answers; a report in build/drill
	@tests/beds/hosts/base
	@$(BIN)/python -m tests.beds.drill.program $(ARGS)

.PHONY: test-infra
test-infra: bed-openstack bed-pulumi ## infra/ against a real OpenStack API; ARGS= goes to pytest
	@$(BIN)/python -m pytest $(PARALLEL) tests/infra -m "not full" $(ARGS)

.PHONY: test-infra-full
test-infra-full: bed-openstack bed-pulumi ## the same with what takes long, one after another: 20 workers, every API down
	@$(BIN)/python -m pytest tests/infra $(ARGS)
