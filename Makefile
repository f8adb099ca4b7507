# `make demo` and `make test` are the two commands; each does all the set-up it needs.
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
JOBS ?= 2
SCREEN := $(PYTHON) -m segexplorer.frontends.cli.screen

.PHONY: help install test check bench study demo pages pictures docs clean

help:
	@echo "make demo     set up, then show training on a built-in CT phantom in napari"
	@echo "make test     set up, then run every test (those of the window on a virtual screen)"
	@echo "make check    set up, then ruff, mypy and import-linter"
	@echo "make bench    set up, then run benchmarks/*.py one after the other"
	@echo "make study    set up, then measure A/A rates and coverages anew, and write them into package and docs/"
	@echo "make docs     set up, then build the documentation in build/site; warnings are errors"
	@echo "make pages    set up, then fill in the generated parts of docs/ (losses, commands, settings ...)"
	@echo "make pictures set up, then take the pictures of docs/ anew from the real window"
	@echo "make install  set up only: system libraries, .venv, packages under constraints.txt"
	@echo "make clean    remove caches and build outputs (not .venv, not runs)"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt scripts/set_up.sh
	sh scripts/set_up.sh
	touch $@

test: install
	JOBS=$(JOBS) $(SCREEN) sh scripts/run_tests.sh

check: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: install
	@set -e; for script in benchmarks/*.py; do \
	  test -e "$$script" || { echo "There are no benchmarks yet."; break; }; \
	  echo "== $$script"; $(SCREEN) $(PYTHON) "$$script"; \
	done

study: install
	$(PYTHON) scripts/measure_rates.py
	$(PYTHON) scripts/write_pages.py

demo: install
	.venv/bin/segexplorer demo --output demo-output

pages: install
	$(PYTHON) scripts/write_pages.py

pictures: install
	$(SCREEN) $(PYTHON) scripts/make_pictures.py

docs: install
	$(PYTHON) -m sphinx --fail-on-warning --keep-going --quiet -b html -d build/doctrees docs build/site
	$(PYTHON) scripts/check_site.py build/site

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
