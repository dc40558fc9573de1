# tcseg: everything in two commands, `make study` and `make test`. `make help` lists the rest. Works with GNU make 3.81 (macOS).
DATASET ?= procity
PROFILE ?= laptop
# A pip index for PyTorch alone. Without a GPU: TORCH_INDEX=https://download.pytorch.org/whl/cpu (1 GB instead of 5 on Linux)
TORCH_INDEX ?=
# Versions known to work together: CONSTRAINTS=constraints.txt. By default pip takes the newest within the bounds of pyproject.toml.
CONSTRAINTS ?=
# The first Python that is a 3.11 or 3.12 (3.13 may work). A name can exist and not run (pyenv), so each is tried.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done)

BIN := .venv/bin
# A test process a core, and no more than four (each takes up to 2 GB). A file's tests share fixtures, so they share a process; the
# longest files come first, as tests/conftest.py sorts them.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
STAMP := .venv/.installed
PINS := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
# GB that must be free: the CUDA build of PyTorch, which PyPI serves on Linux, takes the most of it; after installing, a study.
DISK_GB := $(if $(wildcard $(STAMP)),2,$(if $(TORCH_INDEX),4,$(if $(filter Linux,$(shell uname -s)),12,4)))

.DEFAULT_GOAL := help
.PHONY: help check-system env study sweeps rows test lab lint report reference documents colab constraints

help:  ## this list
	@echo "usage: make TARGET [PROFILE=smoke|laptop|full|bench] [DATASET=procity|camvid|cityscapes|FOLDER] [TORCH_INDEX=url] [PYTHON=python3.12] [CHAPTER=4]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

check-system:  ## what the system must have (Python, venv, libGL, git, disk); a line and a fix for each thing missing
	@sh .ci/check-system "$(PYTHON)" $(DISK_GB)

$(STAMP): pyproject.toml
	@sh .ci/check-system "$(PYTHON)" $(DISK_GB)
	@echo "Installing into .venv; this takes some minutes and up to $(DISK_GB) GB."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet $(PINS) --index-url "$(TORCH_INDEX)" torch torchvision)
	$(BIN)/python -m pip install --quiet $(PINS) --editable '.[deploy,report,test,data,peers]'
	@touch $@

env: $(STAMP)  ## .venv with the project in it; the other targets call this

study: $(STAMP)  ## embedded data, eight notebooks, report: the whole study
	$(BIN)/tcseg study --dataset $(DATASET) --profile $(PROFILE)

sweeps: $(STAMP)  ## the runs of the ablation's sweeps that are missing: hours, resumable; then make rows
	$(BIN)/tcseg sweep --dataset $(DATASET) --profile $(PROFILE)
	test $(DATASET) != procity || test $(PROFILE) = bench || { test ! -d "$${TCSEG_DATA:-data}/camvid" && test ! -d data/camvid; } || $(BIN)/tcseg sweep --dataset camvid --profile $(PROFILE)

rows: $(STAMP)  ## copy the rows that sweeps have finished to figures/runs, and draw chapter 5 again from all rows, without training
	$(BIN)/python -m tcseg.study.run_study rows --dataset $(DATASET) --profile $(PROFILE)

test: $(STAMP)  ## the fast tests, then the slow ones, all notebooks at profile smoke among them
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)
	$(BIN)/python -m pytest -m slow $(PARALLEL)

lab: $(STAMP)  ## JupyterLab on your copy of the chapters, data/course; CHAPTER=4 opens that one
	$(BIN)/tcseg lab $(if $(CHAPTER),--chapter $(CHAPTER))

lint: $(STAMP)  ## ruff over the package, the tests and the notebooks; the floors; notebooks without outputs
	$(BIN)/ruff check tcseg tests notebooks
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify --keep-id $(wildcard notebooks/*.ipynb)

report: $(STAMP)  ## the report from the committed figures/ alone, no training
	$(BIN)/python -m tcseg.study.run_study report --dataset $(DATASET) --profile $(PROFILE)

reference: $(STAMP)  ## copy the finished study's tables, figures and run records to figures/, and the two students to tcseg/weights
	$(BIN)/python -m tcseg.study.run_study reference --dataset $(DATASET) --profile $(PROFILE)

documents: $(STAMP)  ## README, the cards, CITATION.cff and the links in the chapters again: after a change of [project.urls] or of a template
	$(BIN)/python -m tcseg.study.run_study documents

colab: $(STAMP)  ## the chapters as Google Colab opens them, in build/colab
	$(BIN)/python -m tcseg.study.run_study colab

constraints: $(STAMP)  ## constraints.txt from the packages in .venv
	$(BIN)/python .ci/constraints.py > constraints.txt.new && mv constraints.txt.new constraints.txt
