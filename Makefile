# Sets itself up in .venv and runs. `make demo` and `make test` need Python >= 3.11, git and make, nothing else.
#   make demo PYTHON=python3.12       choose the interpreter
#   make demo RECIPE=recipes/video.yaml ROOT=/data/runs
#   make test PROCESSES=4             processes that run the tests
SHELL  := /bin/bash
VENV   ?= .venv
S3     ?= .venv-s3
RECIPE ?= recipes/demo.yaml
ROOT   ?=
PROCESSES ?= 2
CANDIDATES = python3 python3.11 python3.12 python3.13 python
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
RUN     = $(VENV)/bin/python -m
PIP     = $(RUN) pip --disable-pip-version-check install --quiet --progress-bar off
# Images for builds set it, and each of a test run's thousand processes would then compile all of Hyperloom anew.
unexport PYTHONDONTWRITEBYTECODE
SAY     = @printf '\n== %s\n'

.PHONY: help demo test setup setup-test check lint style types unit constraints clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    set up what the demo needs and run the main job ($(RECIPE))"
	@echo "make test    set up everything and run the checks: ruff, mypy, pytest"
	@echo "make lint    ruff and mypy only        make unit   the unit tests only (no Ray, a minute and a half)"
	@echo "make setup   only install, into $(VENV)     make clean  remove environments and caches; runs/ stays"

demo: setup
	$(SAY) "running $(RECIPE): the first run takes some minutes, a second one reuses everything"
	@$(RUN) hyperloom.pipeline run $(RECIPE) $(if $(ROOT),--root $(ROOT))
	@printf '\nThe whole story in MLflow:\n    %s ui %s\n' "$(VENV)/bin/hyperloom" "$(RECIPE) $(if $(ROOT),--root $(ROOT))"

test: setup-test check
	$(SAY) "pytest: all tests (those that lack a program or data say why they skip)"
	@$(RUN) pytest -q -n $(PROCESSES) tests/unit
	@$(RUN) pytest -q -n $(PROCESSES) --dist loadgroup --no-loadscope-reorder --durations=30 --ignore=tests/unit

check: lint

lint: style types

style: setup-test
	$(SAY) "ruff"
	@$(RUN) ruff check .

types: setup-test
	$(SAY) "mypy"
	@mkdir -p build/types/hyperloom && for p in pipeline stages clusters; do ln -sfn ../../../$$p build/types/hyperloom/$$p; done && ln -sfn ../../../pipeline/python/__init__.py build/types/hyperloom/__init__.py
	@$(RUN) mypy

unit: setup-test
	@$(RUN) pytest -q -n $(PROCESSES) tests/unit

setup: $(VENV)/.demo
setup-test: $(VENV)/.test $(S3)/.ready

# A stamp is made after a complete installation and depends on what was installed, so a repeated make installs nothing.
# The test stamp covers the demo's needs.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@if [ "$(VENV)/.test" -nt pyproject.toml ] && [ "$(VENV)/.test" -nt constraints.txt ]; then touch $@; exit 0; fi; \
	printf '\n== installing the demo into $(VENV), once; this can take some minutes\n'; \
	$(PIP) -c constraints.txt -e '.[demo]' && touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(SAY) "installing everything into $(VENV), once; this can take some minutes"
	@$(PIP) -c constraints.txt -e '.[test]'
	@touch $@

# The S3 servers of the tests have an environment of their own: moto and s3fs want different versions of botocore.
$(S3)/.ready: tests/s3-server.txt | $(VENV)/.test
	$(SAY) "installing the S3 servers of the tests into $(S3), once"
	@{ $(RUN) venv "$(S3)" && "$(S3)/bin/python" -m pip --disable-pip-version-check install -q -r tests/s3-server.txt; } || \
	  echo "could not install it: the tests against S3 will skip"
	@mkdir -p "$(S3)" && touch $@

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "No Python >= 3.11 found (looked for: $(CANDIDATES)). Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not Python >= 3.11. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) lacks the venv module. Next: install it (Debian/Ubuntu: apt-get install python3-venv), then make again" >&2; \
	  exit 1; }
	$(SAY) "creating $(VENV) with $$("$(PYTHON)" -V)"
	@"$(PYTHON)" -m venv "$(VENV)" || { rm -rf "$(VENV)"; exit 1; }

constraints: setup-test
	$(SAY) "writing constraints.txt from $(VENV)"
	@{ sed -n '/^#/p' constraints.txt; $(RUN) pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) $(S3) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
