# Each target sets up what it needs: on a fresh machine `make tour` or `make test` alone is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: setup tour test test-slow selfcheck clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Climb needs Python 3.11 or newer; $(PYTHON) is older. Try: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(INSTALLED)

tour: setup
	@$(BIN)/climb tour

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

selfcheck: setup
	$(BIN)/climb selfcheck

clean:
	rm -rf .venv .climb build *.egg-info
