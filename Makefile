# make demo: the main job end to end on this machine.   make test: lint, types, tests.   make bench [ONLY=name]
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Spinning OpenMP threads of several processes starve each other.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test test-long lint fast bench soak docs clean

demo: $(VENV)/.demo
	$(BIN)/steady demo

test: lint
	$(BIN)/python -m pytest -m "not slow and not long" -n auto --maxprocesses 4
	$(BIN)/python -m pytest -m "slow and not long" -n 2 --dist loadfile

# Whole clusters, real servers and the longest runs, 75 minutes on two slow cores. Some need PostgreSQL, Chromium, or root and Slurm.
test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m long

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not long" -n auto --maxprocesses 4

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ONLY)

# Runs killed at random (20 kills, about 20 minutes): each must end with the losses and weights of the run left alone.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak $(ARGS)

# The recipe reference from the docstrings, the errors from the source, the numbers of scaling from the benchmarks.
docs: $(VENV)/.demo
	$(BIN)/python -m docs.build
	$(BIN)/python -m docs.troubleshooting
	$(BIN)/python -m docs.scaling

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) .steady *.egg-info
