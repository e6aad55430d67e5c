# Two commands on a bare machine: python3, make and a package index are all they need.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: quickstart test docs environment

# Draws faces, trains LaplaceKL beside SAM for about two minutes, leaves quickstart/quickstart.png.
quickstart: environment
	$(RUN) -m lapjax.cli.quickstart

# Lint, format and every test.
test: environment
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pytest -n 2

# The documentation as a site that opens offline: site/index.html.
docs: environment
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

environment: $(VENV)/.installed

# Made again when the dependencies change.
$(VENV)/.installed: pyproject.toml setup.cfg
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[train,test]"
	touch $@
