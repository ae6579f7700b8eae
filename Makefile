# For users: make train, make test. For developers besides: make test-all (the
# slow tests too), test-suites (every task, with every optional suite), lint,
# lock, build-file, clean. ARGS is added to the main command.
PYTHON ?= python3.11
BIN := .venv/bin
SUITES := .venv-suites
LOCK := requirements/lock.txt
LOGDIR ?= runs/quickstart
ARGS ?=
# Two at a time: much of a test is Python on one core. A file stays in one
# process, for what its tests share; tests/conftest.py says which come first.
PYTEST := -m pytest -n 2 --dist=loadfile --no-loadscope-reorder
# The one that the requirements are locked for, whatever else could run dv3.
RIGHT_VERSION := import sys; sys.exit(sys.version_info[:2] != (3, 11))
PTH := .venv/lib/python3.11/site-packages/_dv3.pth

.PHONY: train test test-all test-suites lint venv venv-suites packages \
    editable lock build-file clean

train: venv
	$(BIN)/dv3-train --gin_file=preset/quickstart.gin --logdir="$(LOGDIR)" \
	    $(ARGS)

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

# True of a virtual environment that can be filled or used: it was made in this
# folder (a copy's programs start the original's Python and its dv3), its
# interpreter is there and of this version, and no package is half there: pip,
# which writes INSTALLER after all else, takes what it was killed in for whole.
define is_whole
case "$$(cat $(1)/pyvenv.cfg 2>/dev/null)" in \
      *" $$(pwd -P)/$(1)") ;; *) false ;; esac \
    && $(1)/bin/python -c 'import ssl; from importlib import metadata; \
      metadata.version("pip"); $(RIGHT_VERSION)' 2>/dev/null \
    && (for package in $(1)/lib/python3.11/site-packages/*.dist-info; do \
      test -e "$$package/INSTALLER" || exit 1; done)
endef

# Makes one anew where it is not whole; over what is there it would stay broken.
# A link is left to whom it leads to.
define make_whole
$(call is_whole,$(1)) || { \
    "$(PYTHON)" -c '$(RIGHT_VERSION)' 2>/dev/null || { echo 'dv3 needs Python' \
      '3.11, for which its requirements are locked; "$(PYTHON)" is not there,' \
      'or another: install it, or name it: make PYTHON=/path/to/python3.11' >&2; \
      exit 2; }; \
    test ! -L $(1) || rm $(1); \
    "$(PYTHON)" -m venv --clear $(1); }
endef

# Each stamp holds the checksum of what a step was made from, so that a repeated
# `make venv` does nothing. Checksums, since times say nothing in a fresh clone.
# `pip install .` replaces the editable install by a copy, which takes its .pth.
venv:
	@$(call is_whole,.venv) \
	    && sha256sum --check --status .venv/packages.sha256 2>/dev/null \
	    || $(MAKE) --no-print-directory packages
	@sha256sum --check --status .venv/editable.sha256 2>/dev/null \
	    && test "$$(cat $(PTH) 2>/dev/null)" = "$$(pwd -P)" \
	    || $(MAKE) --no-print-directory editable

# Beside the locked requirements, whatever the task files can need. Not locked:
# docs/environments.md says with which versions it was run.
venv-suites: venv
	@$(call make_whole,$(SUITES))
	$(SUITES)/bin/python -m pip install --quiet --require-hashes \
	    --requirement=$(LOCK)
	$(SUITES)/bin/python -m pip install --quiet --no-build-isolation \
	    --editable='.[suites]'
	$(SUITES)/bin/python -m pip check

# The stamps go before pip comes: if it fails half-way, the stamp of the earlier
# lock would hold again as soon as that lock is back.
packages:
	@$(call make_whole,.venv)
	rm -f .venv/packages.sha256 .venv/editable.sha256
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

clean:
	rm -rf .venv $(SUITES)
