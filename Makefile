# Every target makes its own .venv on a fresh machine, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
HARNESSES := .venv-harnesses

export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-fast test-harnesses check docs screens evidence release bench bench-gpu bench-harnesses clean

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)  ## scenes, two trainings, reliance, heads, report: demo/report.html
	$(BIN)/fivl demo

test: $(READY)  ## all tests, about ten minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope

test-fast: $(READY)  ## the tests that take less than a second or two: two minutes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope -m "not slow"

$(HARNESSES)/.ready: setup.cfg
	$(PYTHON) -m venv $(HARNESSES)
	$(HARNESSES)/bin/python -m pip install --quiet "lmms-eval==0.7.3" "inspect-ai==0.3.285" decord openai "filelock<4" --editable .
	touch $@

test-harnesses: $(READY) $(HARNESSES)/.ready  ## FiVL's tasks in lmms-eval and inspect-ai, installed beside .venv without its pins
	FIVL_HARNESSES_PYTHON=$(CURDIR)/$(HARNESSES)/bin/python $(BIN)/python -m pytest tests/evaluation/integrations

bench-harnesses: $(READY) $(HARNESSES)/.ready  ## asking, against lmms-eval's own loop
	FIVL_HARNESSES_PYTHON=$(CURDIR)/$(HARNESSES)/bin/python $(BIN)/python benchmarks/harness.py

check: $(READY) docs  ## format, lint, types, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)  ## the documentation as a site, build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screens: $(READY)  ## screenshots of the pages in docs/screens, by Chromium, from demo/
	$(BIN)/python docs/make_screens.py

bench: $(READY) bench-harnesses  ## benchmarks, each as a ratio; results in benchmarks/results
	for script in labels measures probe collation training reading extraction augment_scenes grounding \
		released_masks release_index streaming pushing protocols scoring evaluation explaining browsing scenes; do $(BIN)/python benchmarks/$$script.py || exit 1; done

evidence: $(READY)  ## docs/evidence.md and its tables, from the runs in examples/ablations/results; what is missing is trained
	for script in data_fraction overlap max_coverage vision_modeling random_start tasks question_kinds transfer remedies perturbations \
		loss_weight mask_quality robustness heads key_expressions evidence; do \
		$(BIN)/python examples/ablations/$$script.py || exit 1; done

release:  ## sdist and wheel in dist/, checked, installed into a new environment, their demo run
	.ci/release

bench-gpu: $(READY)  ## LLaVA-1.5-7B's training step and head analysis on a GPU
	$(BIN)/python benchmarks/training.py --gpu

clean:
	rm -rf $(VENV) $(HARNESSES) demo build dist *.egg-info
