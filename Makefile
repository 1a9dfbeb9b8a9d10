# Every target does all the set-up it needs, once, in .venv; `make` alone lists them.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WHEEL := build/wheel

.PHONY: help demo test lint docs picture wheel-check clean

help:
	@echo "make demo         fit the eight schools; writes the fit and a picture into out/"
	@echo "make test         run the tests"
	@echo "make lint         check format, style and types"
	@echo "make docs         build the documentation into build/docs, each of its cells run"
	@echo "make picture      draw docs/picture.png anew"
	@echo "make wheel-check  build the wheel and run it in an empty environment"
	@echo "make clean        remove what these made, .venv included"
	@echo "Python >= 3.11 is found by itself; choose one with: make demo PYTHON=python3.13"

demo: $(VENV)/.package
	@$(BIN)/infimum demo

# One BLAS thread a process: on two cores two of the files took 42 s with it, 74 s without.
test: $(VENV)/.development
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --durations 12

lint: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.documentation
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs
	@echo "Wrote build/docs/index.html."

picture: $(VENV)/.package
	$(BIN)/python docs/picture.py

wheel-check: $(VENV)/.package
	@rm -rf $(WHEEL)
	$(PIP) wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	$(BIN)/python -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet $(WHEEL)/*.whl
	cd $(WHEEL) && venv/bin/infimum --version && venv/bin/infimum demo

clean:
	rm -rf $(VENV) build dist out .pytest_cache .ruff_cache .mypy_cache .hypothesis

# The stamps are older than pyproject.toml when it changes: then the set-up is done again.

$(VENV)/.package: pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one, or name it: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is not a Python >= 3.11. Name another one: make PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); the first time takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade "pip>=25.1"
	@$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.documentation: $(VENV)/.package
	@$(PIP) install --quiet --group docs
	@touch $@

$(VENV)/.development: $(VENV)/.package
	@$(PIP) install --quiet --group test
	@touch $@
