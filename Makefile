# Lakebed: `make build` makes a lakehouse on this machine, `make test` proves it.
PYTHON ?= python3
RELEASE ?= $(shell git describe --tags --abbrev=0 2>/dev/null)
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
export DBT_PROFILES_DIR ?= .
# What is checked and documented are all domains; `make build` builds retail.
DOMAINS := LAKEBED_DOMAINS=saas,web
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help build saas test lint contracts unit docs coverage soak bench lock clean
help:  ## Show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/ok: requirements/dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Lakebed needs Python 3.10 or later; set PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

build: $(VENV)/ok  ## Land the sample data, run dbt build on DuckDB, say what was built
	lakebed sample retail
	dbt build
	lakebed status

saas: $(VENV)/ok  ## A subscription business on PostgreSQL: run it, capture it, build it
	lakebed sample saas --until 2023-12-31  # the empty database: history begins with the first capture
	lakebed capture streams/saas.yml --once
	lakebed sample saas
	lakebed capture streams/saas.yml --once
	LAKEBED_DOMAINS=saas dbt build --selector saas
	lakebed status

test: $(VENV)/ok lint contracts unit  ## Everything CI runs

lint: $(VENV)/ok
	ruff check python
	ruff format --check python
	mypy
	rm -rf target/lint
	$(DOMAINS) LAKEBED_HOME=target/lint sqlfluff lint --processes $(JOBS) models tests analyses  # an empty lake: the same SQL each time
	$(DOMAINS) dbt parse --quiet --warn-error
	lakebed coverage --check

contracts: $(VENV)/ok  ## Refuse a broken contract; RELEASE=<git revision> to compare with, else the last tag
	@if [ -z "$(RELEASE)" ]; then echo "No release yet: no contract to keep."; else \
	  rm -rf target/release && mkdir -p target/release && \
	  git archive "$(RELEASE)" | tar -x -C target/release && \
	  dbt parse --quiet --project-dir target/release && \
	  dbt --warn-error-options '{"error": ["UnversionedBreakingChange"]}' \
	    ls --quiet --select state:modified.contract --state target/release/target && \
	  echo "No contract of $(RELEASE) is broken."; fi

docs: $(VENV)/ok  ## target/static_index.html: tables, columns and tests; target/lineage.html: where each column comes from
	$(DOMAINS) dbt docs generate --static
	$(DOMAINS) lakebed lineage page --no-compile

coverage: $(VENV)/ok  ## Write docs/patterns.md
	$(DOMAINS) dbt parse --quiet
	lakebed coverage

unit: $(VENV)/ok
	pytest -m 'not soak' -n $(JOBS) --dist loadgroup --no-loadscope-reorder --max-worker-restart 0 --durations 20

soak: $(VENV)/ok  ## The long proofs: hundreds of kills, scale
	pytest -m soak

bench: $(VENV)/ok  ## Benchmarks: ratios to the obvious alternative, into data/benchmarks.json
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements/bench.lock
	cd python && python -m benchmarks

lock:  ## Resolve pyproject.toml into requirements/dev.lock, and what benchmarks compare with
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --no-header \
	  --group dev --extra cdc --extra http --extra kafka --extra lineage --extra s3 --extra samples --extra spark --extra team pyproject.toml -o requirements/dev.lock
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --no-header \
	  --group bench --constraint requirements/dev.lock -o requirements/bench.lock

clean:  ## Remove what was built, the lake included
	rm -rf data target logs dbt_packages
