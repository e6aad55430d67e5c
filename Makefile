# Two commands on a bare machine: python3, make and a package index are all they need.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: quickstart check test lint types quick coverage docs environment

# Draws faces, trains LaplaceKL beside SAM for about two minutes, leaves quickstart/quickstart.png.
quickstart: environment
	$(RUN) -m lapjax.cli.quickstart

# Before a commit: lint, format, types and the tests that take no minute.
check: lint types quick

# Before a merge: lint, format, the documentation without a warning, and every test.
test: lint docs
	$(RUN) -m pytest -n 2

lint: environment
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

# datasets/ is lapjax.datasets once installed; a checker finds it so in build/types.
types: environment
	mkdir -p build/types/lapjax
	ln -sfn ../../../datasets build/types/lapjax/datasets
	ln -sfn ../../../lapjax/__init__.py build/types/lapjax/__init__.py
	$(RUN) -m basedpyright --pythonpath $(RUN)

quick: environment
	$(RUN) -m pytest -n 2 -m "not slow"

# Every test once more, under coverage: a table of the lines that none reaches.
coverage: environment
	$(RUN) -m pytest -n 2 --cov --cov-report=term

# The documentation as a site that opens offline: site/index.html.
docs: environment
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

environment: $(VENV)/.installed

# Made again when the dependencies change.
$(VENV)/.installed: pyproject.toml setup.cfg
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[train,test,docs]"
	touch $@
