# One command does one thing; `make help` lists them. Needs Python 3.11-3.13, git and make.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: setup book test check pdf quick results figures bench labs lint clean help

# One thread a process: the episodes are small, and several threads only slow them down.
book test check quick bench results labs: export OMP_NUM_THREADS = 1

setup: $(INSTALLED)  ## create .venv and install the pinned environment into it

# torch goes first: left to the resolver it may be tried in several versions of several GB.
$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; choose one with: make setup PYTHON=python3.12"; exit 1; }
	@echo "Installing into .venv; this takes a few minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock torch
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[book,dev]'
	@touch $@

book: $(INSTALLED)  ## build the book into _build/html/index.html (FORCE=1 executes every notebook again)
	$(BIN)/python book/build.py

test: $(INSTALLED)  ## run every test
	$(BIN)/python -m pytest -n 2

check: $(INSTALLED)  ## open every page of the built book in headless Chromium, without a network
	$(BIN)/python -m pytest -n 2 -m book tests/test_pages.py

pdf: $(INSTALLED)  ## print the built book into _build/aiecof.pdf (with Chromium)
	$(BIN)/python book/pdf.py

quick: $(INSTALLED)  ## retrain a small version of every experiment into runs/quick, in under 10 minutes
	$(BIN)/aiecof run all --profile quick --jobs $(JOBS)
	$(BIN)/aiecof figures --results runs/quick --out _build/figures-quick

bench: $(INSTALLED)  ## measure the speed of the simulator, of the environments and of the training
	$(BIN)/aiecof bench simulator
	$(BIN)/aiecof bench environments
	$(BIN)/aiecof bench training

results: $(INSTALLED)  ## compute what is missing in results/, JOBS=2 at a time (from nothing: many hours; it resumes)
	test -f results/tuning.csv || $(BIN)/aiecof tune
	test -f results/calibration.csv || $(BIN)/aiecof calibrate --jobs $(JOBS)
	$(BIN)/aiecof search --jobs $(JOBS)
	$(BIN)/aiecof run all --jobs $(JOBS)
	$(BIN)/aiecof replay

figures: $(INSTALLED)  ## draw every figure from results/ into _build/figures/
	$(BIN)/aiecof figures

labs: $(INSTALLED)  ## make the students' edition of the course labs in _build/labs and try out their grading
	$(BIN)/python labs/build.py

lint: $(INSTALLED)  ## check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove the built book and every cache; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find aiecof book labs tests -name __pycache__ -prune -exec rm -rf {} +

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
