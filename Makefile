# Needs only make, Python 3.10 or newer with venv, and a package index; everything else is set up here.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNTIME ?= python3.12
LAYER := layers/encryption_guard
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# aliyun-fc2 alone publishes no wheel; whatever else would run a program to be installed is refused.
LOCKED := --require-hashes --only-binary :all: --no-binary aliyun-fc2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.dependencies: requirements-build.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv was found: install one, or name it with PYTHON=..." >&2; exit 2; }
	@echo "Setting up $(VENV) with $(PYTHON) (once)" >&2
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(PIP) install $(LOCKED) -r requirements-build.txt
	@$(PIP) install $(LOCKED) --no-build-isolation -r requirements-dev.txt
	@touch $@

$(INSTALLED): $(VENV)/.dependencies pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Watch an emulated cloud: buckets created, encrypted, dead-lettered
	@$(BIN)/python -m tests.emulators.demo

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
		{ $$root apt-get -q update && DEBIAN_FRONTEND=noninteractive $$root apt-get -q install -y \
			--no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 \
		|| echo "They could not be installed: the tests of the page are skipped" >&2; fi

# For `make deploy`, and for the tests that hold template.yaml against the real command.
node_modules/.package-lock.json: package.json package-lock.json
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

.PHONY: serverless-devs
serverless-devs:
	@command -v npm >/dev/null 2>&1 \
		&& $(MAKE) --silent --no-print-directory node_modules/.package-lock.json \
		|| echo "Serverless Devs could not be installed: it takes Node.js with npm" >&2

.PHONY: test
test: check browser serverless-devs ## Every check and test of the project
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
	@if $(PIP) install $(LOCKED) -r requirements-fuzz.txt >/dev/null 2>&1; then \
		$(BIN)/python -m tests.fuzz.handler --seconds $(or $(SECONDS),60); \
	else echo "atheris could not be installed here: Hypothesis searches alone" >&2; \
		$(BIN)/python -m pytest -q --hypothesis-profile=searching --hypothesis-show-statistics \
			-k "not worst" tests/unit/test_hostile_events.py tests/unit/test_hostile_letters.py; fi

.PHONY: audit
audit: ## Ask for known weaknesses of all that is locked
	@"$(PYTHON)" $(LAYER)/audit.py

.PHONY: vectors
vectors: $(INSTALLED) ## Make the golden signature vectors anew with the official SDK
	@$(BIN)/python -m tests.vectors.make

.PHONY: build
build: ## build/: the layer zip (RUNTIME=python3.12) and the functions' code
	@"$(PYTHON)" $(LAYER)/build.py --runtime $(RUNTIME) --output build

DEPLOY := $(BIN)/python -m layers.encryption_guard.deploy
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

.PHONY: lock
lock: ## Pin the newest allowed dependencies with their hashes (needs uv)
	uv pip compile --universal -p 3.10 --generate-hashes --no-header --no-annotate --upgrade -q pyproject.toml -o $(LAYER)/requirements.txt
	uv pip compile --universal -p 3.10 --generate-hashes --no-header --no-annotate --upgrade -q pyproject.toml --extra cli --group dev -c $(LAYER)/requirements.txt -o requirements-dev.txt
	uv pip compile --universal -p 3.10 --generate-hashes --no-header --no-annotate --upgrade -q requirements-build.in -o requirements-build.txt

.PHONY: clean
clean: ## Remove what was built and set up
	rm -rf build node_modules .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
