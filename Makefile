# make quickstart   install fledge into .venv and run its main job
# make test         lint, types and the fast tests; SLOW=1 adds the slow ones

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# A second OpenMP thread on a busy machine costs far more than it gains.
TEST_ENV := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help quickstart test check docs clean

help:
	@echo "make quickstart   install into $(VENV) and run fledge quickstart"
	@echo "make test         check, then the fast tests (SLOW=1: the slow ones too)"
	@echo "make check        ruff and mypy"
	@echo "make docs         write docs/methods.md, docs/reliability.md and the table of docs/datasets.md from their files"
	@echo "make clean        remove $(VENV) and all caches; runs/ stays"

quickstart: $(VENV)/installed
	$(BIN)/fledge quickstart

test: check
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed
	$(BIN)/python -m fledge.method_cards > docs/methods.md.part
	mv docs/methods.md.part docs/methods.md
	$(BIN)/python -m tests.faults.page > docs/reliability.md.part
	mv docs/reliability.md.part docs/reliability.md
	$(BIN)/python -m fledge.dataset_cards docs/datasets.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Never rebuilt once it is there, so a torch that was installed into it by hand stays.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fledge needs Python 3.11 or newer: $(PYTHON) is not: name another, as in make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "no virtual environment: $(VENV): install Python's venv module (Debian: python3-venv)" >&2; exit 1; }

# Editable, so that what runs is this folder; pyproject.toml says what else is needed.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Installing fledge into $(VENV); the first time this downloads several gigabytes and takes some minutes."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing fledge and its development tools into $(VENV); the first time this takes some minutes."
	@$(PIP) install --editable ".[dev]"
	@touch $@ $(VENV)/installed
