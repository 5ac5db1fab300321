# One command does one thing; `make help` lists them. Needs Python 3.11-3.13, git and make; without make: tasks.py.
PYTHON ?= python3
TASKS := setup setup-labs book test clients check pdf quick results figures bench labs lint lock clean help

.DEFAULT_GOAL := help
.PHONY: $(TASKS)

$(TASKS):
	@$(PYTHON) tasks.py $@
