# `make demo` and `make test` are each the only command needed on a fresh machine with
# Python 3.11 or newer: they create .venv, install tunebook into it, and do their job.

PYTHON ?= python3
# The index of PyTorch's CPU-only builds; see README.md. Empty: whatever pip finds.
TORCH_INDEX_URL ?=
# A variable, because a comma would end the argument of $(if).
TORCH := torch>=2.10,<2.14

# A file of exact versions, such as ci/constraints.txt; empty: whatever pyproject.toml allows.
CONSTRAINTS ?=
PINNED := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

BIN := .venv/bin
STAMP := .venv/.installed
DEV := .venv/.dev

.DEFAULT_GOAL := help
.PHONY: help demo test slow soak bench check format docs guide

help:
	@echo "make demo    train the embedded model on embedded data, and show what came of it"
	@echo "make test    run the tests"
	@echo "make slow    run the tests that take minutes: recipes at length, kills by the dozen"
	@echo "make soak    kill, damage, fill disks by the thousand, read pages meanwhile (hours)"
	@echo "make bench   train beside other trainers, tiny in a minute; CASE=NAME, a whole one and kept"
	@echo "make check   lint, format, types, layers, docs in step with the code"
	@echo "make format  format the code"
	@echo "make docs    write the generated pages docs/fields.md and docs/commands.md again"
	@echo "make guide   build the guide of docs/ into site/, to be read without a network"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tunebook needs Python 3.11 or newer; name one with make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX_URL),$(BIN)/pip install --quiet $(PINNED) '$(TORCH)' --index-url $(TORCH_INDEX_URL))
	$(BIN)/pip install --quiet $(PINNED) --editable .
	@touch $@

$(DEV): $(STAMP)
	$(BIN)/pip install --quiet $(PINNED) --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/tunebook demo --book demo-book

test: $(DEV)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

slow: $(DEV)
	$(BIN)/pip install --quiet --editable '.[harness]'
	$(BIN)/pytest -m "slow and not gpu" --timeout 3600

FAULTS := $(BIN)/python benchmarks/faults_io
FUZZ := $(BIN)/python benchmarks/fuzz
soak: slow
	$(FAULTS)/kills.py --count 1000 --write
	$(FAULTS)/life.py --count 1000 --write
	$(FAULTS)/kill_points.py --by hook --write
	if command -v strace > /dev/null; then $(FAULTS)/kill_points.py --by strace --write; fi
	$(FAULTS)/damage.py --count 2400 --resumes 100 --write
	$(FAULTS)/full_disk.py --count 200 --write
	$(FAULTS)/disk_need.py --write
	$(FAULTS)/names.py --write
	$(FAULTS)/signals.py --count 20 --write
	$(FAULTS)/ranks.py --times 20 --write
	$(FAULTS)/every_verb.py --count 24 --gone 12 --write
	$(FAULTS)/eight.py --count 200 --write
	$(FAULTS)/judge_faults.py --count 1000 --write
	$(FAULTS)/long_run.py --count 10000 --write
	$(FAULTS)/many_runs.py --count 200 --write
	if $(BIN)/python -c 'import ray' 2> /dev/null; then $(FAULTS)/ray_workers.py --count 10 --write; fi
	$(BIN)/python benchmarks/web/hostile.py --count 5000 --write
	$(BIN)/python benchmarks/web/xss.py --count 100 --each 1 --write
	$(BIN)/python benchmarks/web/soak.py --seconds 600
	$(FUZZ)/run_files.py --count 10000 --write
	$(FUZZ)/data_rows.py --count 10000 --write
	$(FUZZ)/imports.py --count 3000 --write
	$(FUZZ)/book_files.py --count 3000 --write
	$(FUZZ)/stored.py --count 2000 --write
	$(FUZZ)/containers.py --write
	$(FUZZ)/paths.py --write
	$(FUZZ)/special_tokens.py --write
	$(FUZZ)/bounds.py --write
	if $(BIN)/python -c 'import atheris' 2> /dev/null; then \
	  $(FUZZ)/coverage_guided.py run-files --write && $(FUZZ)/coverage_guided.py data-rows --write; fi
	$(FUZZ)/zoo.py --all --write
	$(BIN)/python tools/make_safety.py

# LitGPT asks for an older huggingface-hub than transformers does, and runs with this one.
bench: $(DEV)
	$(BIN)/pip install --quiet --editable '.[peers]'
	$(BIN)/pip install --quiet --no-deps 'litgpt>=0.5.13,<0.6'
	$(BIN)/python benchmarks/speed/compare.py $(if $(CASE),--case $(CASE) --write,--quick)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/make_docs.py --check

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV)
	$(BIN)/python tools/make_docs.py

# The builder's own notice of its successor is answered in docs/decisions/0040.
guide: $(STAMP)
	$(BIN)/pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "open site/index.html; for its search, $(BIN)/python -m http.server --directory site"
