# Everything runs in .venv, which is made from requirements.lock and made again only when that file changes.
VENV   ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED ?= 0
export DO_NOT_TRACK ?= 1
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false

.DEFAULT_GOAL := help
.PHONY: help env demo test lint docs format lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: ## Make .venv from the lock and install the project into it
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@cmp -s requirements.lock $(VENV)/installed.lock || { \
		echo "Installing requirements.lock into $(VENV) (a few minutes the first time)"; \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install -qq --requirement requirements.lock && \
		rm -f $(VENV)/installed.toml && cp requirements.lock $(VENV)/installed.lock; }
	@cmp -s pyproject.toml $(VENV)/installed.toml || { \
		$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable . && \
		cp pyproject.toml $(VENV)/installed.toml; }

demo: env ## Make a small catalog with the built-in model and show where it is (ARGS="--products 8")
	@$(BIN)/pinco demo $(ARGS)

test: env ## Run the tests (ARGS="-k sheet" or "-m 'not slow'" for some of them)
	@$(BIN)/python -m pytest $(ARGS)

lint: env ## Check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: env ## Build the documentation site into site/, strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: env ## Put the code into the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The lock leaves out what differs between machines: torch's build tag (+cpu) and the CUDA packages that a CUDA build of
# torch brings along by itself. Versions that are locked stay, unless pyproject.toml forbids them or UPGRADE=1 is given.
lock: ## Resolve pyproject.toml into requirements.lock (UPGRADE=1: to the newest versions)
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet $(if $(UPGRADE),,--constraint requirements.lock) --editable '.[dev]'
	@{ sed -n '/^#/p' requirements.lock; \
		.venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+.*$$//' | \
		grep -Ev '^(nvidia-|cuda-|triton)'; } > .venv-lock/requirements.lock
	@mv .venv-lock/requirements.lock requirements.lock && rm -rf .venv-lock
