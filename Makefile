# Thin over tox: what a newcomer runs.  `make` alone lists it.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: help venv demo test bench clean
help:
	@echo "make venv   .venv with relay (editable) and what its tests need"
	@echo "make demo   real casts through an agent whose upstream is killed and brought back"
	@echo "make test   the Debian packages of bindep.txt where possible, then everything tox runs"
	@echo "make bench  the core comparison with the peers that are installed"
	@echo "make clean  removes what the others made"

venv: $(BIN)/.stamp

$(BIN)/.stamp: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'relay needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' bindep tox
	@touch $@

demo: venv
	$(BIN)/python demo/demo.py

test: venv
	tools/debian-packages test
	$(BIN)/tox run

bench: venv
	tools/debian-packages bench
	$(BIN)/tox run -e bench

clean:
	rm -rf .venv .tox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
