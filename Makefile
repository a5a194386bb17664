# make demo: an answer about a clip; make test: the tests. Both create the environment if need be.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test test-slow test-gpu test-quantize chaos lint format benchmark

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(VENV)/bin/python -m training.demo

test: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -m 'not slow' -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -m slow

test-gpu: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -m gpu

test-quantize: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quantize]'
	$(VENV)/bin/python -m pytest tests/workers/llm/test_quantized.py tests/streaming/test_backends.py

chaos: $(VENV)/.installed
	$(VENV)/bin/python -m tests.chaos.killing --kills 100

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

benchmark: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.pruner_speed
	$(VENV)/bin/python -m benchmarks.memory
	$(VENV)/bin/python -m benchmarks.overhead
	$(VENV)/bin/python -m benchmarks.batch
