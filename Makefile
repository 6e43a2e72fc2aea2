# Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
PORT ?= 8000
MARKDOWN ?= build/measured.md
BIN := .venv/bin

.PHONY: setup demo run test check format bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv (once; some minutes, most of them for torch) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup            ## train a small model on real digits and find its mislabelled examples
	$(BIN)/python examples/demo.py

run: setup             ## serve on 127.0.0.1:$(PORT)
	$(BIN)/python -m service serve --port $(PORT)

# Two processes, each with whole files of tests: much of the time goes into waiting for services and browsers. In the
# order of their names: the files with the fewest tests are not the quickest ones.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup           ## format, lint, types, import layers; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers of the benchmarks stay away from what the service needs. Where one cannot be installed, its rows say so.
bench: setup .venv-peers/ready .venv-pytriton/ready   ## measure beside the peers; BENCH="http growth": parts; MARKDOWN=README.md: figures
	$(BIN)/python -m benchmarks --markdown $(MARKDOWN) $(BENCH)

.venv-peers/ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	-.venv-peers/bin/python -m pip install --disable-pip-version-check --requirement $<
	@touch $@

.venv-pytriton/ready: benchmarks/peers/requirements-pytriton.txt
	$(PYTHON) -m venv .venv-pytriton
	-.venv-pytriton/bin/python -m pip install --disable-pip-version-check --requirement $<
	@touch $@

clean:
	rm -rf .venv .venv-peers .venv-pytriton build dist *.egg-info
