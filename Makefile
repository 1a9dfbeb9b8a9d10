# Every target does all the set-up it needs, once, in .venv; `make` alone lists them.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WHEEL := build/wheel
RELEASE := build/release

.PHONY: help demo test test-portable lint docs picture wheel minimal-check wheel-check \
	release-check clean

help:
	@echo "make demo           fit the eight schools; writes the fit and a picture into out/"
	@echo "make test           run the tests with shapes checked, and print their coverage"
	@echo "make test-portable  run them as on older processors, on every Python here; takes hours"
	@echo "make lint           check format, style and types"
	@echo "make docs           build the documentation into build/docs, each of its cells run"
	@echo "make picture        draw docs/picture.png again"
	@echo "make minimal-check  install the wheel without extras in an empty environment, and fit"
	@echo "make wheel-check    install it with all extras in another one, and run the demo"
	@echo "make release-check  check wheel and sdist as an index does, and run the demo from each"
	@echo "make clean          remove what these made, .venv included"
	@echo "Python >= 3.11 is found by itself; choose one with: make demo PYTHON=python3.13"

demo: $(VENV)/.package
	@$(BIN)/infimum demo

# One BLAS thread a process: on two cores two of the files took 42 s with it, 74 s without.
# Coverage takes 1.4 times the seconds: `make test COVERAGE=` leaves it out.
COVERAGE := --cov infimum --cov-report term:skip-covered
test: $(VENV)/.development
	OPENBLAS_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m pytest --numprocesses auto \
		--maxprocesses 4 --durations 12 -p shape_checks $(COVERAGE)

# Other Pythons have their environments in build/portable. A part: make test-portable TESTS=tests/base
test-portable: $(VENV)/.development
	$(BIN)/python tests/portable.py $(TESTS)

lint: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.documentation
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs
	@echo "Wrote build/docs/index.html."

picture: $(VENV)/.package
	$(BIN)/python docs/picture.py

wheel: $(VENV)/.package
	@rm -rf $(WHEEL)
	@$(PIP) wheel --quiet --no-deps --wheel-dir $(WHEEL) .

minimal-check: wheel
	@$(call empty,$(WHEEL)/minimal)
	@$(WHEEL)/minimal/bin/python -m pip install --quiet $(WHEEL)/*.whl
	cd $(WHEEL) && minimal/bin/python $(CURDIR)/tests/minimal.py

wheel-check: wheel
	@$(call empty,$(WHEEL)/full)
	@$(WHEEL)/full/bin/python -m pip install --quiet "$$(ls $(WHEEL)/*.whl)[all]"
	cd $(WHEEL) && full/bin/infimum --version && full/bin/infimum demo

# The wheel is built from the sdist, as an index's users would build it.
release-check: $(VENV)/.release
	@rm -rf $(RELEASE)
	$(BIN)/python -m build --quiet --outdir $(RELEASE) .
	$(BIN)/python -m twine check --strict $(RELEASE)/infimum-*
	@for archive in $(RELEASE)/infimum-*; do \
		echo "$$archive"; \
		$(call empty,$(RELEASE)/venv) && \
		$(RELEASE)/venv/bin/python -m pip install --quiet "$$archive[all]" && \
		(cd $(RELEASE) && venv/bin/infimum --version && venv/bin/infimum demo) || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist out .coverage .pytest_cache .ruff_cache .mypy_cache .hypothesis

# An environment with nothing in it but pip.
define empty
rm -rf $(1) && $(BIN)/python -m venv $(1)
endef

# The stamps are older than pyproject.toml when it changes: then the set-up is done again.

$(VENV)/.package: pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one, or name it: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is not a Python >= 3.11. Name another one: make PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); the first time takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade "pip>=25.1"
	@$(PIP) install --quiet --editable ".[all]"
	@touch $@

$(VENV)/.documentation: $(VENV)/.package
	@$(PIP) install --quiet --group docs
	@touch $@

$(VENV)/.development: $(VENV)/.package
	@$(PIP) install --quiet --group test
	@touch $@

$(VENV)/.release: $(VENV)/.package
	@$(PIP) install --quiet --group release
	@touch $@
