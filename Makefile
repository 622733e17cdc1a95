# `make demo` and `make test` do all the set-up on a fresh machine; the second time they only run.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: setup demo test check clean

# A stamp with the hash of what is installed: a changed dependency installs again, a touched file does not.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

$(STAMP):
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	rm -f $(VENV)/.installed-*
	touch $@

setup: $(STAMP) ## create .venv and install

demo: $(STAMP) ## make sounds, caption and draw them: offline, no account, no GPU
	$(RUN) -m a2i.data.foley demo/sounds --count 6 --seed 1 --alone
	$(RUN) -m a2i.infer audio=demo/sounds out=demo

test: $(STAMP) ## the default tests
	$(RUN) -m pytest -n 2

check: $(STAMP) ## linter and type checker
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean: ## remove what the demo and builds left
	rm -rf demo dist build
