# Needs only make, Python 3.10 or newer with venv, and a package index; everything else is set up here.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3; do \
	$$p -E -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNTIME ?= python3.12
LAYER := layers/encryption_guard
TOOLS := layers.encryption_guard.tools
# Of pip's settings only those count that say where packages come from.
PIP := $(BIN)/python -m $(TOOLS).isolated_pip --quiet
# The locks are complete: nothing is left to resolve. Python compiles what it imports, when it does.
LOCKED := --no-deps --no-compile --require-hashes --only-binary :all:
# It alone publishes no wheel; whatever else would run a program to be installed is refused.
WITH_SOURCES := --no-binary aliyun-fc2 --no-build-isolation
AGAIN := Then run the same command again; it continues where it has to.

# With these, other modules would run than those that are set up here, or each run would compile anew.
unexport PYTHONHOME PYTHONPATH PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONINSPECT \
	PYTHONDONTWRITEBYTECODE
# The emulated cloud is on loopback, where no proxy leads.
COMMA := ,
export no_proxy := $(addsuffix $(COMMA),$(or $(no_proxy),$(NO_PROXY)))127.0.0.1
export NO_PROXY := $(no_proxy)

# A virtual environment is made again if it is half made, was moved, has lost its Python, or has
# another one than PYTHON names. $(shell) passes on what is not exported: hence -E.
WHO := import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2])
identity = $(shell "$(1)" -E -c '$(WHO)' 2>/dev/null)
RUNS := $(call identity,$(BIN)/python)
WHOLE := $(and $(RUNS),$(shell grep -sxF "$(abspath $(VENV)) $(RUNS)" $(VENV)/.dependencies))
NAMED := $(filter-out file undefined,$(origin PYTHON))
THAT := $(if $(NAMED),$(call identity,$(PYTHON)))
OTHER := $(if $(NAMED),$(if $(THAT),$(filter-out $(RUNS),$(THAT)),cannot run))
# What may be emptied. A Python in it proves nothing: /usr has one, too.
OURS := $(or $(filter .venv%,$(notdir $(abspath $(VENV)))),$(wildcard $(VENV)/pyvenv.cfg))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: again
again:

$(VENV)/.dependencies: requirements-build.txt requirements-dev.txt $(if $(and $(WHOLE),$(if $(OTHER),,1)),,again)
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv was found: install one, or name it with PYTHON=..." >&2; exit 2; }
	@"$(PYTHON)" -E -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
		|| { echo "$(PYTHON) is not a Python 3.10 or newer with venv: install one, or name another with PYTHON=..." >&2; exit 2; }
	@test -n "$(OURS)" || test -z "$$(ls -A "$(VENV)" 2>/dev/null)" \
		|| { echo "$(VENV) is not empty, and no virtual environment: empty it, or name another folder with VENV=..." >&2; exit 2; }
	@echo "Setting up $(VENV) with $(PYTHON) (once)" >&2
	@# First, since what is half emptied may still look whole.
	@rm -f $@ $(INSTALLED)
	@"$(PYTHON)" -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) could not make $(VENV): fix what it says above. $(AGAIN)" >&2; exit 1; }
	@# The pip that a Python brings may be years old, so it installs nothing but a new one.
	@sed -n '/^pip==/,/[0-9a-f]$$/p' requirements-build.txt | $(PIP) install $(LOCKED) -r /dev/stdin \
		&& $(PIP) install $(LOCKED) -r requirements-build.txt \
		&& $(PIP) install $(LOCKED) $(WITH_SOURCES) -r requirements-dev.txt \
		|| { echo "pip could not install what is locked: fix what it says above. $(AGAIN)" >&2; exit 1; }
	@echo "$(abspath $(VENV)) $$($(BIN)/python -E -c '$(WHO)')" > $@

$(INSTALLED): $(VENV)/.dependencies pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable . \
		|| { echo "pip could not install this project: fix what it says above. $(AGAIN)" >&2; exit 1; }
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Watch an emulated cloud: buckets created, encrypted, dead-lettered
	@PYTHONUTF8=1 PYTHONIOENCODING=utf-8 $(BIN)/python -m tests.emulators.demo

.PHONY: check
check: $(INSTALLED) ## Lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# For the tests of the page that a sweep writes: where it cannot be had, they are skipped by name.
.PHONY: browser
browser:
	@if [ "$$CI" = true ] && ! { command -v chromium && command -v chromedriver; } >/dev/null 2>&1; then \
		echo "Installing chromium and chromium-driver" >&2; \
		root=$$([ "$$(id -u)" = 0 ] || command -v sudo); \
		said=$$({ $$root dpkg --configure -a && $$root apt-get -q update && DEBIAN_FRONTEND=noninteractive \
			$$root apt-get -q install -y --no-install-recommends chromium chromium-driver; } 2>&1) \
		|| { echo "$$said" | tail -n 3 >&2; \
			echo "They could not be installed: the tests of the page are skipped" >&2; }; fi

# For `make deploy`, and for the tests that hold template.yaml against the real command. npm takes
# each option from the environment and from .npmrc as well; these decide what is installed, and where.
NPM_CI := npm ci --ignore-scripts --global=false --location=project --workspaces=false --dry-run=false \
	--package-lock --package-lock-only=false --bin-links --no-audit --no-fund --loglevel=error
SERVERLESS_DEVS := node_modules/.bin/s

node_modules/.installed: package.json package-lock.json $(if $(wildcard $(SERVERLESS_DEVS)),,again)
	@command -v npm >/dev/null 2>&1 \
		|| { echo "Serverless Devs needs Node.js 14.14 or newer with npm, and there is no npm here: install it." >&2; exit 1; }
	@$(NPM_CI) >/dev/null \
		|| { echo "npm could not install Serverless Devs: fix what it says above. $(AGAIN)" >&2; exit 1; }
	@$(SERVERLESS_DEVS) --version >/dev/null \
		|| { echo "Serverless Devs was installed but does not run: fix what it says above. $(AGAIN)" >&2; exit 1; }
	@touch $@

.PHONY: serverless-devs
serverless-devs: node_modules/.installed ## Install Serverless Devs, for the targets that deploy

.PHONY: test
test: check browser ## Every check and test of the project
	@$(MAKE) --silent --no-print-directory serverless-devs \
		|| echo "Without Serverless Devs the tests that run it are skipped" >&2
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --cov --cov-report=term

.PHONY: matrix
matrix: ## The tests on every supported Python that is installed
	@for v in 3.10 3.11 3.12 3.13; do \
		if python$$v -c '' 2>/dev/null; then $(MAKE) test PYTHON=python$$v VENV=.venv-$$v || exit 1; \
		else echo "python$$v is not installed: skipped" >&2; fi; done

.PHONY: bench
bench: $(INSTALLED) ## Time a PUT, a sweep, a cold event: ours, the official SDK, the bare limit
	@$(BIN)/python -m tests.benchmarks.put_encryption
	@$(BIN)/python -m tests.benchmarks.sweep
	@$(BIN)/python -m tests.benchmarks.cold_start --json build/cold_start.json
	@$(BIN)/python -m tests.benchmarks.instance_sizes --json build/instance_sizes.json

.PHONY: chaos
chaos: $(INSTALLED) ## 10,000 creations under every fault at once, and a judge (SEED=, EVENTS=)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) \
		--json build/chaos.json

.PHONY: fuzz
fuzz: $(INSTALLED) ## Search for events that break the function (SECONDS=60)
	@$(PIP) install $(LOCKED) -r requirements-fuzz.txt; \
	if $(BIN)/python -c 'import atheris' 2>/dev/null; then \
		$(BIN)/python -m tests.fuzz.handler --seconds $(or $(SECONDS),60); \
	else echo "There is no atheris for this Python here: Hypothesis searches alone" >&2; \
		$(BIN)/python -m pytest -q --hypothesis-profile=searching --hypothesis-show-statistics \
			-k "not worst" tests/unit/events/test_hostile_events.py tests/unit/dead_letters/test_hostile_letters.py; fi

.PHONY: audit
audit: $(INSTALLED) ## Ask for known weaknesses of all that is locked
	@$(BIN)/python -m $(TOOLS).audit

.PHONY: vectors
vectors: $(INSTALLED) ## Make the golden signature vectors anew with the official SDK
	@$(BIN)/python -m tests.vectors.make

.PHONY: build
build: $(INSTALLED) ## build/: the layer zip (RUNTIME=python3.12) and the functions' code
	@$(BIN)/python -m $(TOOLS).build --runtime $(RUNTIME) --output build

DEPLOY := $(BIN)/python -m $(TOOLS).deploy
WHERE = $(addprefix --region ,$(or $(REGIONS),$(REGION))) $(if $(ANY_REGION),--any-region)

.PHONY: deploy
deploy: $(INSTALLED) serverless-devs ## Build, publish, deploy, try it (REGION=... or REGIONS="a b")
	@$(DEPLOY) deploy $(WHERE)

.PHONY: plan
plan: $(INSTALLED) serverless-devs ## What `make deploy` would change
	@$(DEPLOY) plan $(WHERE)

.PHONY: remove
remove: $(INSTALLED) serverless-devs ## Remove all that `make deploy` made (YES=1: do not ask)
	@$(DEPLOY) remove $(WHERE) $(if $(YES),--yes)

.PHONY: verify-live
verify-live: $(INSTALLED) serverless-devs ## In your account: a bucket is made, watched, and deleted
	@$(BIN)/python -m tests.live.verify $(addprefix --region ,$(REGION)) $(if $(YES),--yes)

# An extra that a package asks for stays in its line (`coverage[toml]`): without it some installers
# take the package for another one, which nothing pins.
LOCK := uv pip compile --generate-hashes --no-strip-extras --no-header --no-annotate --upgrade -q
FOR_ALL := $(LOCK) --universal -p 3.10
# The layer has a lock without markers for each runtime, so that pip has nothing to judge: it would
# judge by the Python that builds. What Function Compute can load is in tools/build.py, too.
FOR_LAYER := $(LOCK) --python-platform x86_64-manylinux2014 -c build/requirements.txt pyproject.toml

.PHONY: lock
lock: ## Pin the newest allowed dependencies with their hashes (needs uv)
	@command -v uv >/dev/null 2>&1 || { echo "uv makes the locks, and is not here: install it." >&2; exit 1; }
	@mkdir -p build
	$(FOR_ALL) pyproject.toml -o build/requirements.txt
	$(FOR_LAYER) --python-version 3.12 -o $(LAYER)/requirements-3.12.txt
	$(FOR_LAYER) --python-version 3.10 -o $(LAYER)/requirements-3.10.txt
	$(FOR_ALL) pyproject.toml --extra cli --group dev -c build/requirements.txt -o requirements-dev.txt
	$(FOR_ALL) requirements-build.in -c requirements-dev.txt -o requirements-build.txt

.PHONY: outdated
outdated: $(INSTALLED) ## What is newer than the locks, and whether the unit tests pass with it
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM && \
	$(BIN)/python -m venv "$$folder/venv" && newest="$$folder/venv/bin/python" && \
	install() { "$$newest" -m $(TOOLS).isolated_pip --quiet install --upgrade "$$@"; } && \
	install pip && install -r requirements-build.in && \
	install --no-build-isolation --group dev --editable '.[cli]' && \
	for python in $(BIN)/python "$$newest"; do \
		"$$python" -m pip freeze --all --exclude-editable > "$$folder/$$([ "$$python" = "$$newest" ] && echo newest || echo locked)"; done && \
	{ diff -U0 "$$folder/locked" "$$folder/newest" | grep '^[-+][^-+]' || echo "Nothing is newer than the locks."; } && \
	"$$newest" -m pytest -q --no-cov tests/unit

.PHONY: clean
clean: ## Remove what was built and set up
	rm -rf build node_modules .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
