# Requires make, Python 3.10 or newer with venv, and a package index. The targets install the rest.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3; do \
	$$p -E -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNTIME ?= python3.12
LAYER := layers/encryption_guard
TOOLS := layers.encryption_guard.tools
# pip with only those of its settings that say where packages come from.
PIP := $(BIN)/python -m $(TOOLS).isolated_pip --quiet
# The locks are complete, so pip resolves nothing. Python compiles a module when it is imported.
LOCKED := --no-deps --no-compile --require-hashes --only-binary :all:
# Only these two have no wheel. pip refuses any other package that needs a build.
WITH_SOURCES := --no-binary aliyun-fc2,aliyun-log-python-sdk --no-build-isolation
AGAIN := Then run the same command again; it continues from there.

# With these variables Python would import other modules, or compile every module at each start.
unexport PYTHONHOME PYTHONPATH PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONINSPECT \
	PYTHONDONTWRITEBYTECODE
# The emulated cloud listens on loopback, which a proxy cannot reach.
COMMA := ,
export no_proxy := $(addsuffix $(COMMA),$(or $(no_proxy),$(NO_PROXY)))127.0.0.1
export NO_PROXY := $(no_proxy)

# make creates the virtual environment again if it is incomplete, was moved, has lost its Python, or
# has a Python other than PYTHON. -E is needed because $(shell) also passes unexported variables on.
WHO := import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2])
identity = $(shell "$(1)" -E -c '$(WHO)' 2>/dev/null)
RUNS := $(call identity,$(BIN)/python)
WHOLE := $(and $(RUNS),$(shell grep -sxF "$(abspath $(VENV)) $(RUNS)" $(VENV)/.dependencies))
NAMED := $(filter-out file undefined,$(origin PYTHON))
THAT := $(if $(NAMED),$(call identity,$(PYTHON)))
OTHER := $(if $(NAMED),$(if $(THAT),$(filter-out $(RUNS),$(THAT)),cannot run))
# Not empty if make may clear the folder VENV. A Python in it is no proof: /usr has one too.
OURS := $(or $(filter .venv%,$(notdir $(abspath $(VENV)))),$(wildcard $(VENV)/pyvenv.cfg))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: again
again:

$(VENV)/.dependencies: requirements-build.txt requirements-dev.txt $(if $(and $(WHOLE),$(if $(OTHER),,1)),,again)
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv was found: install one, or set its path with PYTHON=..." >&2; exit 2; }
	@"$(PYTHON)" -E -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
		|| { echo "$(PYTHON) is not a Python 3.10 or newer with venv: install one, or set another path with PYTHON=..." >&2; exit 2; }
	@test -n "$(OURS)" || test -z "$$(ls -A "$(VENV)" 2>/dev/null)" \
		|| { echo "$(VENV) is not empty and not a virtual environment: empty it, or set another folder with VENV=..." >&2; exit 2; }
	@echo "Setting up $(VENV) with $(PYTHON) (once)" >&2
	@# First: a partly cleared folder may still look complete.
	@rm -f $@ $(INSTALLED)
	@"$(PYTHON)" -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) could not create $(VENV): fix the error above. $(AGAIN)" >&2; exit 1; }
	@# The pip of a Python may be years old, so it installs only the locked pip.
	@sed -n '/^pip==/,/[0-9a-f]$$/p' requirements-build.txt | $(PIP) install $(LOCKED) -r /dev/stdin \
		&& $(PIP) install $(LOCKED) -r requirements-build.txt \
		&& $(PIP) install $(LOCKED) $(WITH_SOURCES) -r requirements-dev.txt \
		|| { echo "pip could not install the locked packages: fix the error above. $(AGAIN)" >&2; exit 1; }
	@echo "$(abspath $(VENV)) $$($(BIN)/python -E -c '$(WHO)')" > $@

$(INSTALLED): $(VENV)/.dependencies pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable . \
		|| { echo "pip could not install this project: fix the error above. $(AGAIN)" >&2; exit 1; }
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Show the guard in an emulated cloud: encryptions and dead letters
	@PYTHONUTF8=1 PYTHONIOENCODING=utf-8 $(BIN)/python -m tests.emulators.demo

.PHONY: check
check: $(INSTALLED) ## Check lint, formatting, types and the keys of both templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m $(TOOLS).template_keys template.yaml
	$(BIN)/python -m $(TOOLS).template_keys $(LAYER)/member.yaml

# The tests of the HTML report need a browser. Without one, pytest skips them and lists their names.
.PHONY: browser
browser:
	@if [ "$$CI" = true ] && ! { command -v chromium && command -v chromedriver; } >/dev/null 2>&1; then \
		echo "Installing chromium and chromium-driver" >&2; \
		root=$$([ "$$(id -u)" = 0 ] || command -v sudo); \
		output=$$({ $$root dpkg --configure -a && $$root apt-get -q update && DEBIAN_FRONTEND=noninteractive \
			$$root apt-get -q install -y --no-install-recommends chromium chromium-driver; } 2>&1) \
		|| { echo "$$output" | tail -n 3 >&2; \
			echo "They could not be installed: the tests of the HTML report are skipped" >&2; }; fi

# For `make deploy`, and for the tests that run the real command on template.yaml. npm reads every
# option also from the environment and from .npmrc, so these set what npm installs, and where.
NPM_CI := npm ci --ignore-scripts --global=false --location=project --workspaces=false --dry-run=false \
	--package-lock --package-lock-only=false --bin-links --no-audit --no-fund --loglevel=error
SERVERLESS_DEVS := node_modules/.bin/s

node_modules/.installed: package.json package-lock.json $(if $(wildcard $(SERVERLESS_DEVS)),,again)
	@command -v npm >/dev/null 2>&1 \
		|| { echo "Serverless Devs needs Node.js 14.14 or newer with npm, but npm is not installed: install it." >&2; exit 1; }
	@$(NPM_CI) >/dev/null \
		|| { echo "npm could not install Serverless Devs: fix the error above. $(AGAIN)" >&2; exit 1; }
	@$(SERVERLESS_DEVS) --version >/dev/null \
		|| { echo "Serverless Devs was installed but does not run: fix the error above. $(AGAIN)" >&2; exit 1; }
	@touch $@

.PHONY: serverless-devs
serverless-devs: node_modules/.installed ## Install Serverless Devs, for the targets that deploy

PYTEST := $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --cov --cov-report=term

.PHONY: ready-to-test
ready-to-test: check browser
	@$(MAKE) --silent --no-print-directory serverless-devs \
		|| echo "Serverless Devs is not installed: the tests that run it are skipped" >&2

.PHONY: test
test: ready-to-test ## Run the checks, and the tests that every change needs
	$(PYTEST) -m "not slow"

.PHONY: test-all
test-all: ready-to-test ## Run every check and test, and the fuzzer, before a release
	$(PYTEST) --switch-threads
	@$(MAKE) --silent --no-print-directory fuzz

.PHONY: matrix
matrix: ## Run `make test` with every supported Python that is installed
	@for v in 3.10 3.11 3.12 3.13; do \
		if python$$v -c '' 2>/dev/null; then $(MAKE) test PYTHON=python$$v VENV=.venv-$$v || exit 1; \
		else echo "python$$v is not installed: skipped" >&2; fi; done

.PHONY: bench
bench: $(INSTALLED) ## Time the gap, a PUT, a sweep and a cold event (BASELINE=)
	@$(BIN)/python -m tests.benchmarks.put_encryption
	@$(BIN)/python -m tests.benchmarks.sweep
	@$(BIN)/python -m tests.benchmarks.cold_start --json build/cold_start.json
	@$(BIN)/python -m tests.benchmarks.instance_sizes --json build/instance_sizes.json
	@$(BIN)/python -m tests.benchmarks.pace --json build/pace.json
	@$(BIN)/python -m tests.benchmarks.organization --json build/organization.json
	@$(BIN)/python -m tests.benchmarks.gap $(if $(BASELINE),--baseline $(BASELINE)) --json build/gap.json

.PHONY: chaos
chaos: $(INSTALLED) ## Run 10,000 creations and an organization under all faults at once (SEED=, EVENTS=)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) \
		--json build/chaos.json
	@$(BIN)/python -m tests.chaos.organization $(if $(SEED),--seed $(SEED))

.PHONY: fuzz
fuzz: $(INSTALLED) ## Search for events that break the function (SECONDS=60)
	@$(PIP) install $(LOCKED) -r requirements-fuzz.txt; \
	if $(BIN)/python -c 'import atheris' 2>/dev/null; then \
		$(BIN)/python -m tests.fuzz.handler --seconds $(or $(SECONDS),60); \
	else echo "atheris is not available for this Python: only Hypothesis searches" >&2; \
		$(BIN)/python -m pytest -q --hypothesis-profile=searching --hypothesis-show-statistics \
			-k "not worst" tests/unit/events/test_hostile_events.py tests/unit/dead_letters/test_hostile_letters.py; fi

.PHONY: audit
audit: $(INSTALLED) ## Look up known vulnerabilities of all locked packages
	@$(BIN)/python -m $(TOOLS).audit

.PHONY: vectors
vectors: $(INSTALLED) ## Regenerate the golden signature vectors with the official SDK
	@$(BIN)/python -m tests.vectors.make

.PHONY: build
build: $(INSTALLED) ## Build the layer zip (RUNTIME=python3.12) and the functions into build/
	@$(BIN)/python -m $(TOOLS).build --runtime $(RUNTIME) --output build

DEPLOY := $(BIN)/python -m $(TOOLS).deploy
WHERE = $(addprefix --region ,$(or $(REGIONS),$(REGION))) $(if $(ANY_REGION),--any-region)

.PHONY: deploy
deploy: $(INSTALLED) serverless-devs ## Build, publish, deploy and test (REGION= or REGIONS="a b", CONFIG=guard.toml, YES=1)
	@$(DEPLOY) deploy $(WHERE) $(addprefix --config ,$(CONFIG)) $(if $(YES),--yes)

.PHONY: plan
plan: $(INSTALLED) serverless-devs ## Show what `make deploy` would change
	@$(DEPLOY) plan $(WHERE) $(addprefix --config ,$(CONFIG))

.PHONY: member-template
member-template: $(INSTALLED) serverless-devs ## Print the template of another account (REGION=, whose settings it has)
	@$(DEPLOY) member-template $(WHERE) $(addprefix --config ,$(CONFIG))

.PHONY: remove
remove: $(INSTALLED) serverless-devs ## Remove everything that `make deploy` created (KEEP_LOGS=1, YES=1: do not ask)
	@$(DEPLOY) remove $(WHERE) $(if $(KEEP_LOGS),--keep-logs) $(if $(YES),--yes)

.PHONY: verify-live
verify-live: $(INSTALLED) serverless-devs ## Create, watch and delete a table bucket in your account
	@$(BIN)/python -m tests.live.verify $(addprefix --region ,$(REGION)) $(if $(YES),--yes)

# The locks keep the extras that a package requires (`coverage[toml]`). Without the extra, some
# installers treat the requirement as another package, which is not pinned.
LOCK := uv pip compile --generate-hashes --no-strip-extras --no-header --no-annotate --upgrade -q
FOR_ALL := $(LOCK) --universal -p 3.10
# The layer has a lock without markers for each runtime, because pip would evaluate markers for the
# Python that builds. tools/build.py names the same platform.
FOR_LAYER := $(LOCK) --python-platform x86_64-manylinux2014 -c build/requirements.txt pyproject.toml

.PHONY: lock
lock: ## Pin the newest allowed dependencies with their hashes (needs uv)
	@command -v uv >/dev/null 2>&1 || { echo "uv writes the locks, but is not installed: install it." >&2; exit 1; }
	@mkdir -p build
	$(FOR_ALL) pyproject.toml -o build/requirements.txt
	$(FOR_LAYER) --python-version 3.12 -o $(LAYER)/requirements-3.12.txt
	$(FOR_LAYER) --python-version 3.10 -o $(LAYER)/requirements-3.10.txt
	$(FOR_ALL) pyproject.toml --extra cli --group dev -c build/requirements.txt -o requirements-dev.txt
	$(FOR_ALL) requirements-build.in -c requirements-dev.txt -o requirements-build.txt

.PHONY: outdated
outdated: $(INSTALLED) ## Show newer versions than the locked ones, and run the unit tests with them
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
clean: ## Remove everything that was built and installed
	rm -rf build node_modules .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
