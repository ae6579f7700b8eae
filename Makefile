# For users: make train, make test. For developers besides: make test-all (the
# slow tests too), test-suites (every task, with every optional suite), lint,
# lock, build-file. ARGS is added to the main command.
PYTHON ?= python3.11
BIN := .venv/bin
SUITES := .venv-suites
LOCK := requirements/lock.txt
LOGDIR ?= runs/quickstart
ARGS ?=
# Two at a time: much of a test is Python on one core. A file stays in one
# process, for what its tests share; tests/conftest.py says which come first.
PYTEST := -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

.PHONY: train test test-all test-suites lint venv venv-suites packages \
    editable lock build-file

train: venv
	$(BIN)/dv3-train --gin_file=preset/quickstart.gin --logdir=$(LOGDIR) $(ARGS)

test: lint
	$(BIN)/python $(PYTEST) $(ARGS)

# -rs lists what was skipped, with the extra that it needs.
test-all: lint
	$(BIN)/python $(PYTEST) -m '' -rs $(ARGS)

test-suites: venv-suites
	$(SUITES)/bin/python -m pytest -n 2 -m '' -rs tests/envs/suites_test.py \
	    tests/bin/tasks_test.py $(ARGS)

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

# Beside the locked requirements, whatever the task files can need. Not locked:
# docs/environments.md says with which versions it was run.
venv-suites: venv
	test -x $(SUITES)/bin/python || $(PYTHON) -m venv $(SUITES)
	$(SUITES)/bin/python -m pip install --quiet --require-hashes \
	    --requirement=$(LOCK)
	$(SUITES)/bin/python -m pip install --quiet --no-build-isolation \
	    --editable='.[suites]'
	$(SUITES)/bin/python -m pip check

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
