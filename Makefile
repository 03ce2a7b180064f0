# Every target works from a fresh clone; `make run` and `make test` need nothing but Python 3.11 to 3.13.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# Compiled bytecode is what makes Dagster start in seconds.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
READY := $(VENV)/.ready
BROWSER := $(VENV)/.browser
SERVICES := $(VENV)/.services

# The data of `make run` and `make ui`. Point S3LOGX_LOGS at logs of your own to use these instead of the samples.
DATA ?= $(CURDIR)/.data
export DAGSTER_HOME ?= $(DATA)/dagster
export DAGSTER_DISABLE_TELEMETRY := 1
ifndef S3LOGX_LOGS
export S3LOGX_LOGS := $(DATA)/sample_logs
export S3LOGX_FIRST_DATE := 2025-03-01
# Nothing new comes to the samples, so nothing is overdue.
export S3LOGX_FRESH_DAYS := 0
SAMPLE := sample
# Whatever was given from outside may be somebody's own.
GIVEN := $(filter-out file,$(origin DAGSTER_HOME))$(S3LOGX_STORE)
endif

.PHONY: help setup sample run ui check format test servers pictures story attack test-distributed torture bench scale fuzz wheel lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(READY) ## gawk, a virtual environment, the locked packages

$(READY): requirements-dev.lock pyproject.toml deploy/local/bootstrap.sh deploy/local/system.sh
	deploy/local/bootstrap.sh $(VENV)
	@touch $@

# Only what looks at pages needs a browser.
$(BROWSER): $(READY) deploy/local/browser.sh
	deploy/local/browser.sh
	@touch $@

sample: $(READY)
	@$(if $(GIVEN),deploy/local/samples_only.sh)
	@$(PYTHON) -m s3logx_assets.sample_logs $(S3LOGX_LOGS)

run: $(READY) $(SAMPLE) ## everything from nothing: every asset over the sample logs (or yours), and the result as a table
	@deploy/local/run.sh $(BIN)

ui: $(READY) $(SAMPLE) ## the Dagster UI on 127.0.0.1:3000 over the same store, sensors and schedules on
	@deploy/local/ui.sh $(BIN)

check: $(READY) ## format, lint, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(READY) ## the tests, a few minutes
	$(BIN)/pytest

servers: $(READY) $(BROWSER) ## the tests with a real S3 server, real processes and a real browser, ten minutes
	$(BIN)/pytest -m "servers and not story and not fuzz" s3logx_tests

pictures: $(READY) $(BROWSER) ## the README's pictures, of the report and the Dagster UI over sample data
	$(BIN)/pytest -m servers s3logx_tests/browser
	mkdir -p docs/pictures
	cp build/pictures/readme-*.png build/pictures/ui-graph.png build/pictures/ui-totals-map-dark.png docs/pictures/

story: $(READY) ## the whole story with a real daemon and S3 server, some minutes
	$(BIN)/pytest -m story s3logx_tests

attack: $(READY) ## the release policy against its attacker: a thousand random archives, histories of twenty releases; some minutes
	$(BIN)/pytest -m privacy s3logx_tests/properties

# Only the test of several machines needs a database and a broker.
$(SERVICES): $(READY) deploy/celery/packages.sh
	deploy/celery/packages.sh
	@touch $@

test-distributed: $(READY) $(SERVICES) ## several machines for real: PostgreSQL, Redis, Celery, S3; nine minutes, as root
	$(BIN)/pytest -m distributed s3logx_tests/distributed

torture: $(READY) ## every attack on the platform, and on its deliberately broken builds; one table
	$(PYTHON) -m s3logx_tests.torture --breaks

fuzz: $(READY) ## two million hostile lines through both parsers
	$(BIN)/pytest -m fuzz s3logx_tests

bench: $(READY) ## against polars, DuckDB, chdb and cat; writes build/bench.json
	$(BIN)/pip install --quiet --require-hashes -r requirements-bench.lock
	$(PYTHON) -m s3logx_tests.bench

scale: $(READY) ## time and cost against terabytes and machines, measured and simulated; writes docs/scale.md
	$(PYTHON) -m s3logx_tests.bench.scale --measure

wheel: $(READY) ## dist/*.whl
	$(PYTHON) -m build --wheel --no-isolation

lock: $(READY) ## resolve the dependencies anew
	deploy/local/lock.sh $(BIN)

clean: ## remove the environment and everything built; the data in .data stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
