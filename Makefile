# `make demo` and `make test` do all the set-up on a fresh machine; the second time they only run.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: setup demo test test-long test-real test-browser coverage check docs bench clean

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
	$(RUN) -m a2i.data.foley demo/sounds --count 6 --seed 1 --alone --sample-rate 44100
	$(RUN) -m a2i.infer audio=demo/sounds out=demo

test: $(STAMP) ## the default tests
	$(RUN) -m pytest -n 2 --dist worksteal

test-long: $(STAMP) ## those that take more than five seconds each, README's commands among them
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "long and not slow and not gpu and not network and not browser"

test-real: $(STAMP) ## those of them that need real recordings, from the folder A2I_REAL_DATA
	$(RUN) -m pytest -n 2 --dist worksteal -m "real_data and not slow and not long and not gpu and not network and not browser"

test-browser: $(STAMP) ## those that drive a headless Chromium
	$(RUN) -m pytest -n 2 --dist loadfile -m "browser and not slow"

coverage: $(STAMP) ## which lines the default tests run, those that they start in other processes among them
	$(RUN) -m pytest -n 2 --dist worksteal --timeout 1200 --cov --cov-report=term-missing:skip-covered

check: $(STAMP) ## linter, type checker, and whether what is installed fits together
	$(RUN) -m pip check
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(STAMP) ## the documentation site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

BENCHMARKS := log_mel.py data_path.py bertscore.py captions.py pictures.py cold_start.py memory.py busy.py

bench: $(STAMP) ## what the CPU benchmarks measure; records in experiments/benchmarks/results
	for name in $(BENCHMARKS); do $(RUN) experiments/benchmarks/$$name || exit 1; done
	$(RUN) experiments/benchmarks/epoch.py --repeats 2
	$(RUN) experiments/benchmarks/epoch.py --repeats 2 --frozen 1 --clips 4 --batch 4
	$(RUN) experiments/benchmarks/captions.py --base 1 --clips 3 --repeats 2

clean: ## remove what the demo, the benchmarks and builds left
	rm -rf demo bench dist build
