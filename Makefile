# Everything a clone needs: python3 (3.10 or newer), g++ and make.

PYTHON ?= python3
# Passed to every pip install, e.g. to choose another index or an offline folder of wheels.
PIP_FLAGS ?=
# Passed to pytest, e.g. make test PYTEST_FLAGS="tests/kernels -x".
PYTEST_FLAGS ?=
# Folder of the sample data sets; tests that need it are skipped without it.
ifdef UNIDET_TEST_DATA
export UNIDET_TEST_DATA
endif

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test test-torch test-jittor test-newest test-all lint docs bench clean

# The extras of each environment. A new list of dependencies or a new kernel source installs anew.
EXTRAS_.venv := demo,dev
EXTRAS_.venv-torch := torch,dev
EXTRAS_.venv-jittor := jittor,dev
EXTRAS_.venv-newest := torch,dev
EXTRAS_.venv-docs := docs
INSTALLED_FROM := pyproject.toml setup.py constraints.txt $(wildcard backends/kernels/csrc/*)

RUN := .venv/bin/python

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.installed ## Trains on Jittor, moves the weights to PyTorch, evaluates and certifies (runs/demo).
	$(RUN) -m unidet demo --out runs/demo

test: .venv/.installed ## Runs the quick tests.
	$(RUN) -m pytest -m 'not slow' $(PYTEST_FLAGS)

test-torch: .venv-torch/.installed ## Runs the quick tests with PyTorch alone installed.
	.venv-torch/bin/python -m pytest -m 'not slow' $(PYTEST_FLAGS)

test-jittor: .venv-jittor/.installed ## Runs the quick tests with Jittor alone installed.
	.venv-jittor/bin/python -m pytest -m 'not slow' $(PYTEST_FLAGS)

test-newest: .venv-newest/.installed ## Runs the quick tests with the newest PyTorch and NumPy 2 (no Jittor).
	.venv-newest/bin/python -m pytest -m 'not slow' $(PYTEST_FLAGS)

test-all: .venv/.installed .venv-torch/.installed .venv-jittor/.installed ## Runs all tests, and again with one framework installed.
	@echo '== both frameworks'
	.venv/bin/python -m pytest $(PYTEST_FLAGS)
	@echo '== PyTorch alone'
	.venv-torch/bin/python -m pytest $(PYTEST_FLAGS)
	@echo '== Jittor alone'
	.venv-jittor/bin/python -m pytest $(PYTEST_FLAGS)

lint: .venv/.installed ## Checks style (ruff) and types (mypy).
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy -p unidet

docs: .venv-docs/.installed ## Builds the documentation site (build/site); warnings are errors.
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

bench: .venv/.installed ## Measures side by side and writes benchmarks/RESULTS.md (leave the machine alone).
	@# What DETR is measured against; nothing else needs it.
	$(RUN) -m pip install --quiet $(PIP_FLAGS) -c constraints.txt 'transformers>=5'
	$(RUN) benchmarks/results.py

clean: ## Removes environments, builds and caches (not runs/).
	rm -rf .venv .venv-torch .venv-jittor .venv-newest .venv-docs build dist docs/reference *.egg-info backends/kernels/_kernels*
	rm -rf .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv%/.installed: $(INSTALLED_FROM)
	$(call install,$(@D))

.venv/.installed: $(INSTALLED_FROM)
	$(call install,$(@D))

define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "Python 3.10 or newer is needed, $$($(PYTHON) --version) was found; set PYTHON=..." >&2; exit 1; }
@command -v g++ >/dev/null || { echo 'g++ is needed; install it, e.g. apt-get install g++' >&2; exit 1; }
@echo '== setting up $(1) with $(EXTRAS_$(1))'
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --quiet $(PIP_FLAGS) $(if $(filter .venv-newest,$(1)),'numpy>=2' --upgrade,-c constraints.txt) \
	-e '.[$(EXTRAS_$(1))]'
@# Without what it asks for: a second OpenCV beside the headless one.
$(1)/bin/python -m pip install --quiet $(PIP_FLAGS) --no-deps 'lvis>=0.5.3'
@touch $@
endef
