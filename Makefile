# For users: make train, make test. For developers besides: make test-all (the
# slow tests too), lint, lock, build-file. ARGS is added to the main command.
PYTHON ?= python3.11
BIN := .venv/bin
LOCK := requirements/lock.txt
LOGDIR ?= runs/quickstart
ARGS ?=

.PHONY: train test test-all lint venv packages editable lock build-file

train: venv
	$(BIN)/dv3-train --gin_file=preset/quickstart.gin --logdir=$(LOGDIR) $(ARGS)

test: lint
	$(BIN)/python -m pytest $(ARGS)

test-all: lint
	$(BIN)/python -m pytest -m '' $(ARGS)

lint: venv
	$(BIN)/ruff check
	$(BIN)/pyright

# Each stamp holds the checksum of what a step was made from, so that a repeated
# `make venv` does nothing. Checksums, since times say nothing in a fresh clone.
venv:
	@sha256sum --check --status .venv/packages.sha256 2>/dev/null \
	    || $(MAKE) --no-print-directory packages
	@sha256sum --check --status .venv/editable.sha256 2>/dev/null \
	    || $(MAKE) --no-print-directory editable

packages:
	@command -v $(PYTHON) || { echo 'dv3 needs Python 3.11; install it, or' \
	    'name it: make PYTHON=/path/to/python3.11' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --require-hashes --requirement=$(LOCK)
	sha256sum $(LOCK) > .venv/packages.sha256

editable:
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable=.
	$(BIN)/python -m pip check
	sha256sum pyproject.toml > .venv/editable.sha256

# Keeps the versions that the lock has; ARGS=--upgrade looks for newer ones.
lock: venv
	$(BIN)/uv pip compile pyproject.toml --extra=atari --extra=report \
	    --extra=testing --extra=pygame --extra=ray --extra=dev \
	    --generate-hashes \
	    --python-version=3.11 --python-platform=x86_64-manylinux_2_28 \
	    --no-config --no-emit-index-url --custom-compile-command='make lock' \
	    --quiet --output-file=$(LOCK) $(ARGS)

build-file: venv
	$(BIN)/python tools/build_file.py
