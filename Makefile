# make test | demo | lint | prove | mutants | clean. Each sets up .venv by itself and does so again only when
# requirements.lock or pyproject.toml changed.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
# The stamp carries the content's checksum: a fresh checkout beside an old .venv stays quick.
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: test demo docs lint prove mutants clean

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

demo: $(STAMP)
	$(BIN)/pleach demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python --summary=none

# Proofs of the blocks, kept by their content: what did not change is not proved again.
prove: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow' tests/formal

# A site in build/docs, from docs/ and the docstrings; a broken link is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs

# Minutes: a hundred lines broken one at a time, each of which a test must notice.
mutants: $(STAMP)
	$(BIN)/python tests/mutants/run.py -j $(JOBS)

clean:
	rm -rf $(VENV) build .pytest_cache .hypothesis .ruff_cache

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq -r requirements.lock
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	rm -f $(VENV)/.installed-*
	touch $@
