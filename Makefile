# `make demo` and `make test` are the two commands; each does all the set-up it needs.
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
JOBS ?= 2
SCREEN := $(PYTHON) -m segexplorer.frontends.cli.screen

.PHONY: help install test test-slow test-plugins test-cluster test-notebook check bench study demo pages pictures docs clean

help:
	@echo "make demo     set up, then show training on a built-in CT phantom in napari"
	@echo "make test     set up, then run the tests (those of the window on a virtual screen)"
	@echo "make test-slow     set up, then run the tests that take longer: trainings, exports, guides, packages"
	@echo "make test-plugins  set up nnU-Net, Ignite and Lightning, then test the plug-ins for them in real trainings"
	@echo "make test-cluster  set up SLURM and Ray, two nodes each on this computer, then test studies on them"
	@echo "make test-notebook  set up JupyterLab, Notebook 7 and Playwright, then use notebooks in a real browser (needs chromium)"
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

test-slow: install
	JOBS=$(JOBS) $(SCREEN) sh scripts/run_tests.sh slow

test-plugins: install
	sh scripts/test_plugins.sh

test-cluster: install
	sh scripts/test_cluster.sh

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

test-notebook: install
	.venv/bin/pip install --quiet --constraint constraints.txt --group browser
	$(PYTHON) -m pytest -m browser tests/frontends/notebook

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
