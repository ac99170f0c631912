# make demo and make test work in a bare clone: Python >= 3.11, pip, git and make are enough.
# PYTHON names the interpreter, PIP_ARGS goes to pip (another index, a proxy, ...).
PYTHON ?= python3
PIP_ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALL = $(PY) -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
SETUP := pyproject.toml constraints.txt $(VENV)/pyvenv.cfg

.PHONY: demo test test-all check clean

demo: $(VENV)/demo-installed
	$(VENV)/bin/dermjudge demo

test: $(VENV)/all-installed
	$(PY) -m pytest

test-all: $(VENV)/all-installed
	$(PY) -m pytest -m "slow or not slow"

# mypy reads the package as users get it: the checkout's own folder name is no package name.
check: $(VENV)/all-installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports
	rm -rf build
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/installed .
	cd build/installed && ../../$(PY) -m mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p dermjudge

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

# The stamps stand inside .venv: a change of what is to be installed, or a new .venv, installs again; nothing else does.
$(VENV)/demo-installed: $(SETUP)
	$(INSTALL) -e '.[local]'
	touch $@

$(VENV)/all-installed: $(SETUP)
	$(INSTALL) -e '.[all,test]'
	touch $@ $(VENV)/demo-installed

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("dermjudge needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; name another with PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
