# make demo and make test set up what they need; `make help` lists the rest.

PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
SERVERS := tests/servers/node_modules
NOX := PATH="$$PWD/.tools/bin:$$PATH" $(BIN)/nox
export PYTHONWARNINGS ?=
# Its news of other versions would hide our own warnings.
export NO_MKDOCS_2_WARNING := true
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes: what one has compiled, the next need not

.DEFAULT_GOAL := help

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

$(UV):
	@$(PYTHON) -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv

.venv/.demo: $(UV) pyproject.toml requirements.txt
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip install --quiet --python $(BIN)/python --constraint requirements.txt --editable '.[mlflow,openai]'
	@touch $@

.venv/.test: .venv/.demo
	@$(UV) pip install --quiet --python $(BIN)/python --constraint requirements.txt --group lint --group test
	@touch $@

# A server that speaks OpenAI's API, for the tests.
$(SERVERS)/.installed: tests/servers/package-lock.json
	@tests/servers/install
	@touch $@

# An OTLP receiver, in an environment of its own: its GraphQL and MLflow's do not agree.
.phoenix/.installed: $(UV) tests/servers/requirements.txt
	@test -x .phoenix/bin/python || $(UV) venv --quiet --python $(PYTHON) .phoenix
	@$(UV) pip install --quiet --python .phoenix/bin/python --requirements tests/servers/requirements.txt
	@touch $@

demo: .venv/.demo ## one traced chat inside an MLflow run, and where to look at it
	@$(BIN)/mlspan demo

lint: .venv/.test ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

check: lint $(SERVERS)/.installed ## lint and the tests of what has changed, or K=openai: under a minute
	@files=$$($(BIN)/python tests/changed_tests.py $(K)) && $(BIN)/python -m pytest -q -x --ff --seconds 40 $$files

# Trainings take as long as all else, so they run beside it; what they have printed comes before the last line.
test: lint $(SERVERS)/.installed .phoenix/.installed chromium ## every check and every test
	@mkdir -p .nox; rm -f .nox/failed; \
	  { $(NOX) --tags trains >.nox/trains.log 2>&1 || touch .nox/failed; } & trains=$$!; \
	  $(NOX) --tags calls || touch .nox/failed; \
	  { $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder || touch .nox/failed; } | tee .nox/main.log; \
	  wait $$trains; cat .nox/trains.log; tail -n 1 .nox/main.log; test ! -e .nox/failed

matrix: .venv/.test $(SERVERS)/.installed ## what is wider: other tracers beside ours, servers, newest releases
	@MLSPAN_WIDE=1 $(BIN)/python -m pytest -q tests/test_alone.py
	@$(NOX) --tags matrix

newest: .venv/.test $(SERVERS)/.installed ## the newest releases of the libraries (K="cohere ollama"), and a table of what broke
	@PATH="$$PWD/.tools/bin:$$PATH" $(BIN)/python tests/newest.py $(K)

FUZZ ?= 1000
fuzz: .venv/.test ## so many examples (FUZZ=1000) of anything at all, into every destination
	@MLSPAN_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/test_totality.py

chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && \
	  apt-get install -y -qq chromium >/dev/null; } || echo "no browser: apt-get install chromium, and its tests run"

format: .venv/.test ## lay the code out
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

bench: .venv/.test ## the figures of docs/performance.md
	@$(BIN)/python benchmarks/run.py
	@$(BIN)/python benchmarks/clients.py
	@$(BIN)/python benchmarks/instructions.py
	@$(BIN)/python benchmarks/drain.py
	@$(BIN)/python benchmarks/call_path.py
	@$(BIN)/python benchmarks/steps.py

docs: .venv/.test ## the site, in site/
	@"$(BIN)/mkdocs" build --strict

LOCK := --no-header --no-annotate --no-emit-index-url
lock: $(UV) ## write requirements.txt anew
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --extra mlflow --extra openai --group lint --group test \
	  $(LOCK) --output-file requirements.txt pyproject.toml
	@echo arize-phoenix | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 $(LOCK) \
	  --output-file tests/servers/requirements.txt -

clean: ## remove what make has made
	@rm -rf .venv .phoenix .tools .nox $(SERVERS) dist site

.PHONY: help demo lint check test matrix newest fuzz chromium format bench docs lock clean
