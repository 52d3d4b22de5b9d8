# make demo    the main job on the embedded model          make test    the test suite
# make lint    ruff and mypy                               make clean   remove .venv and everything built
# make train-embedded   the recipe of the shipped model, into runs/embedded/model; about 95 minutes on two cores
# make train-landmark   the recipe of the shipped landmark model, into runs/landmark/model; about an hour on one core, and as long for its plain arm
# Each target makes .venv first if it is missing, and again when pyproject.toml or constraints.txt change.
# Another interpreter: make test PYTHON=python3.12

CANDIDATES = python3 python3.14 python3.13 python3.12 python3.11
RECENT = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(if $(filter ok,$(shell $(p) -c '$(RECENT)' 2>/dev/null && echo ok)),$(p))))
INSTALLED = .venv/.installed

.PHONY: demo test lint train-embedded train-landmark clean

demo: $(INSTALLED)
	.venv/bin/graphkv demo

test: $(INSTALLED)
	.venv/bin/python -m pytest

lint: $(INSTALLED)
	.venv/bin/ruff check
	.venv/bin/mypy

train-embedded: $(INSTALLED)
	.venv/bin/python -m graphkv_benchmarks.embedded.train --out runs/embedded
	.venv/bin/python -m graphkv_benchmarks.embedded.export runs/embedded runs/embedded/model

train-landmark: $(INSTALLED)
	.venv/bin/python -m graphkv_benchmarks.landmark.train --out runs/landmark
	.venv/bin/python -m graphkv_benchmarks.landmark.export runs/landmark/landmark/second/model runs/landmark/model

# The stamp is written last: a .venv without it is not whole and is installed again.
$(INSTALLED): pyproject.toml constraints.txt
	@'$(or $(PYTHON),none)' -c '$(RECENT)' 2>/dev/null || { \
	  echo "graphkv needs Python 3.11 or newer; '$(or $(PYTHON),python3)' is not. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x .venv/bin/python || '$(PYTHON)' -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist demo_out graphkv-show *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find graphkv kernels retrieval benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
