# One command for each job. Everything is installed into .venv; nothing outside the checkout is touched,
# except that `make test` as root on Debian may install Chromium.
PYTHON ?= python3
# a pair that belongs together, installed first, so that pip does not replace one of them
TORCH ?= torch==2.13.0 torchvision==0.28.0
# where the pipeline leaves its work
WORKSPACE ?= data
# FETCH=--no-fetch declines trained weights whose licence is unclear (YAMNet's; see nbs/weights.ipynb)
FETCH ?=

VENV := .venv
BIN := $(VENV)/bin
# -qq: say nothing but errors
PIP := $(BIN)/pip install -qq --disable-pip-version-check
# for the scripts that `make test` runs
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo serve notebooks test ready weights browser export outputs lint docs bench clean
help:
	@echo "make demo       set up, run the pipeline on generated shorts, show what it found"
	@echo "make test       set up and run every test"
	@echo "make serve      open the page and the HTTP API"
	@echo "make notebooks  open the notebooks in JupyterLab"
	@echo "make export     clean the notebooks and write the library from them"
	@echo "make outputs    run the notebooks and store their outputs"
	@echo "make weights    fetch the trained weights of the audio encoders"
	@echo "make docs lint bench ready clean"
	@echo "FETCH=--no-fetch after demo, test or weights declines those whose licence is unclear"

# ---- set-up: a stamp file says that it was done with these settings

$(VENV)/ready: settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "avmatch needs Python 3.11 or later; name one: make demo PYTHON=python3.12"; exit 1; }
	@echo "Installing avmatch into $(VENV) (some minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(TORCH)
	@$(PIP) --editable .
	@touch $@

$(VENV)/dev: $(VENV)/ready
	@echo "Installing what tests, docs and JupyterLab need ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

browser:
	@bash tools/need_browser.sh

# ---- for users

demo: $(VENV)/ready
	@$(BIN)/avmatch run --workspace "$(WORKSPACE)" $(FETCH)
	@echo; echo "The first answers for a held-out clip:"; echo
	@$(BIN)/avmatch inspect --workspace "$(WORKSPACE)" --top-k 5
	@echo; echo "Now open the page:       make serve"
	@echo "Read the notebooks:      make notebooks"
	@echo "Use your own videos:     $(BIN)/avmatch run --videos FOLDER --workspace mine"

serve: $(VENV)/ready
	$(BIN)/avmatch serve --workspace "$(WORKSPACE)"

notebooks: $(VENV)/dev
	$(BIN)/jupyter lab nbs

# ---- for developers

# trained weights, once, into the user's cache; what needs them is skipped where they cannot be had
weights: $(VENV)/ready
	@$(BIN)/avmatch weights get $(FETCH) || echo "Going on without these weights."

test: $(VENV)/dev weights browser
	@bash tools/check.sh

ready: test

export: $(VENV)/dev
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export

outputs: $(VENV)/dev
	@$(BIN)/python -m tools.save_outputs $(NOTEBOOKS)
	@$(BIN)/nbdev_export

lint: $(VENV)/dev
	@$(BIN)/ruff check .

docs: $(VENV)/dev
	@$(BIN)/python -m tools.build_docs

# how fast, beside the report's recipe and what the machine allows; the other files of benchmarks/ are called by themselves
bench: $(VENV)/dev
	@$(BIN)/python benchmarks/extraction.py
	@$(BIN)/python benchmarks/search.py
	@$(BIN)/python benchmarks/recommend.py
	@$(BIN)/python benchmarks/training.py --clips 20000
	@$(BIN)/python benchmarks/startup.py

clean:
	rm -rf _docs _proc _proc_small build dist *.egg-info .pytest_cache .ruff_cache
	find avmatch tests tools -name __pycache__ -prune -exec rm -rf {} +
