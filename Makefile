# Every target makes .venv by itself, with the versions of requirements-test.lock. CPython 3.11 to 3.13 will do; PYTHON
# names one, and VENV another directory: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test lint bench conformance fuzz crash soak lock clean

help:
	@echo "make demo         record the built-in camera, find the footage over SOAP, replay it over RTSP"
	@echo "make test         the test suite"
	@echo "make lint         formatting, lint rules, types"
	@echo "make bench        the benchmarks (figures of this machine, with their peers)"
	@echo "make conformance  docs/conformance.md: which requirement is proved by a test; docs/access.md: who may call what"
	@echo "make fuzz         property tests with new random examples, and a minute of broken RTSP"
	@echo "make crash        kill the recording daemon TIMES=20 times and check what is left"
	@echo "make soak         record, rotate, lose cameras, delete, replay and search for MINUTES=15: does anything grow?"
	@echo "make lock         requirements*.lock anew from pyproject.toml (needs pip-tools)"

$(READY): requirements-test.lock pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' || \
		{ echo "nvr needs CPython 3.11 to 3.13; found: '$(PYTHON)'. Name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)
	$(BIN)/nvr demo $(ARGS)

# Tests of whole daemons wait more than they compute: one worker more than there are cores.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
test: $(READY)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict nvr

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

conformance: $(READY)
	$(BIN)/python -m tests.conformance.table
	$(BIN)/python -m tests.conformance.access

fuzz: $(READY)
	NVR_TEST_EXAMPLES=random $(BIN)/python -m pytest -q -n $(WORKERS) -m hypothesis $(ARGS)
	$(BIN)/python -m tests.replay.fuzz 60

TIMES ?= 20
crash: $(READY)
	$(BIN)/python -m tests.e2e.crash --times $(TIMES) $(ARGS)

MINUTES ?= 15
soak: $(READY)
	$(BIN)/python -m tests.e2e.soak --minutes $(MINUTES) $(ARGS)

LOCK := pip-compile --quiet --build-deps-for editable --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links --no-emit-options --strip-extras --allow-unsafe --no-header

lock:
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --extra test --output-file requirements-test.lock pyproject.toml

clean:
	rm -rf .venv $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
