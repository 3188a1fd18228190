# Two commands matter: `make demo` and `make test`. Both run as root on a fresh Debian 12.
.DELETE_ON_ERROR:
.PHONY: help prepare demo demo-down test unit lint format bench bench-large lock-requirements

PYTHON := .venv/bin/python
export PYTHONPATH := bundle:installer:.

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prepare: ## Debian packages and the Python environment in .venv
	@tests/bin/prepare

demo: prepare ## build and sign a bundle, carry it into an air-gapped lab, install, check, show the report
	@$(PYTHON) -m tests.lab.demo up

demo-down: prepare ## take the demo's lab away
	@$(PYTHON) -m tests.lab.demo down

test: prepare ## linters, types, and every test, the lab included
	@$(PYTHON) -m pytest

unit: prepare ## the tests that need no network, no lab and no root
	@$(PYTHON) -m pytest tests/lint tests/unit tests/vectors tests/properties

lint: prepare ## linters and types alone
	@$(PYTHON) -m pytest tests/lint

format: prepare ## write the code as the formatter wants it
	@.venv/bin/ruff format bundle installer playbooks tests benchmarks
	@.venv/bin/ruff check --fix bundle installer playbooks tests benchmarks

bench: prepare ## measure beside crane, skopeo, regctl and oras; ten minutes, a quiet machine
	@$(PYTHON) -m benchmarks

bench-large: prepare ## the same at 20 GB, and 10 000 blobs over a poor line; needs 50 GB, an hour
	@$(PYTHON) -m benchmarks --large --pairs 2

lock-requirements: prepare ## pin the Python packages again, with hashes
	@tests/bin/lock-requirements
