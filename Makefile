# Two commands matter: `make demo` and `make test`. Both set themselves up with nothing but Python >= 3.10 and pip.
#
#   make demo                  the newest mcp 2.x        make demo MCP=1.30.0   another SDK release
#   make demo KEEP=1           leave everything running until Ctrl-C
#   make test                  all tox environments      make test TOXENV=mcp2 ARGS="-k name"
#
# `make bench` measures what the instrumentation costs; it wants a quiet machine and some hours (docs/performance.md).
#
#   make bench WHAT=overhead ARGS="--rounds 3"           a part of it, in minutes
#
# `make soak` keeps a server and a client at full load for ten minutes and looks at what grows (docs/reliability.md).
#
#   make soak SECONDS=60                                  shorter
#
# `make field` runs servers and clients from PyPI and npm, bare and instrumented, for an hour (docs/field.md).
#
#   make field ARGS="agents mcp-server-git"              a part of it
#
# Dashboards and rules are made by `python -m dashboards`; `make pictures` draws those of docs/dashboards.md anew.

PYTHON ?= python3
MCP ?=
KEEP ?=
ARGS ?=
WHAT ?= instructions overhead scale
export KEEP

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# One environment per SDK release, so that going back and forth between two of them installs nothing again.
DEMO_VENV := build/demo-mcp-$(or $(MCP),2.x)
comma := ,
space := $(subst ,, )
DEMO_SDK := $(if $(MCP),mcp == $(MCP),mcp >= 2$(comma) < 3)

# Debian's Python has no ensurepip unless python3-venv is installed. pip can fill an empty environment from outside.
define make_venv
@echo "creating $(1)"
@rm -rf $(1)
@$(PYTHON) -m venv $(1) >/dev/null 2>&1 \
	|| { $(PYTHON) -m venv --clear --without-pip $(1) && $(PYTHON) -m pip --python $(1)/bin/python install --quiet pip; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo test matrix pythons lint outdated bench soak field pictures clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1  \t/p' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO_VENV)/stamp ## run instrumented example servers and clients, show their metrics (KEEP=1, MCP=1.30.0)
	@PATH="$$PATH:$(CURDIR)/.venv/bin" $(DEMO_VENV)/bin/python examples/demo.py

# .venv/bin is on PATH for the Prometheus that may have been put there, and pyenv's Pythons for the environments that run
# on others than this one. In CI a Python that is not there is an error.
TEST_PATH := $(CURDIR)/.venv/bin:$(PATH)$(subst $(space),,$(patsubst %,:%,$(wildcard $(HOME)/.pyenv/versions/3.1*/bin)))
TOX = PATH="$(TEST_PATH)" .venv/bin/tox
STRICT = $(if $(CI),--skip-missing-interpreters false)

# Tests wait about as long as they compute, so there is one process more than there are cores.
export TEST_WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# Installing is mostly waiting: environments are made side by side, and tested one after another.
define run_tox
@$(TOX) run-parallel --notest --parallel-no-spinner --parallel $(TEST_WORKERS) $(STRICT) $(1)
@$(TOX) run $(STRICT) $(1) $(if $(ARGS),-- $(ARGS))
endef

test: .venv/stamp .venv/prometheus.stamp ## lint, type check and test against both SDK generations (TOXENV=..., ARGS=...)
	$(call run_tox)

# The releases are the lines `mcp2.1: mcp == 2.1.1` of tox.ini, and those of fastmcp and OpenTelemetry.
FASTMCP = mcp1-fastmcp2,mcp1-fastmcp3,mcp2-fastmcp4,mcp2-fastmcp4-first
OPENTELEMETRY = mcp2-otel136,mcp2-otel141
MATRIX = $(shell sed -n 's/^ *\(mcp[0-9.]*\): mcp == .*/\1/p' tox.ini)

matrix: .venv/stamp .venv/prometheus.stamp ## test with every release of the SDK, fastmcp and OpenTelemetry (ARGS=...)
	$(call run_tox,-e $(subst $(space),$(comma),$(MATRIX)$(comma)$(FASTMCP)$(comma)$(OPENTELEMETRY)))

pythons: .venv/stamp ## test on every Python at hand, with both generations of the SDK; as root on Debian's newest, too
	@PATH="$(TEST_PATH)" .venv/bin/python tests/pythons.py

lint: .venv/stamp ## lint and type check only
	@.venv/bin/tox run -e lint,types

outdated: .venv/stamp ## show which releases in tox.ini and pyproject.toml have a newer one
	@.venv/bin/python -m tests.outdated

# The releases are those of tox.ini. Results stay in build/bench, so that a part that is run anew replaces its own only.
BENCH_SDKS := 1.30.0 2.3.0
BENCH_RESULTS := build/bench

bench: $(BENCH_SDKS:%=build/bench-mcp-%/stamp) ## measure the cost on both SDK generations (WHAT=overhead, ARGS=...)
	@for what in $(WHAT); do for sdk in $(BENCH_SDKS); do \
		build/bench-mcp-$$sdk/bin/python -m benchmarks.$$what --json $(BENCH_RESULTS)/$$what-$$sdk.json $(ARGS) || exit; \
	done; done
	@build/bench-mcp-$(lastword $(BENCH_SDKS))/bin/python -m benchmarks.report $(BENCH_RESULTS) --page docs/performance.md

SECONDS ?= 600

soak: $(BENCH_SDKS:%=build/bench-mcp-%/stamp) ## look for what grows under load, on both SDK generations (SECONDS=60)
	@for sdk in $(BENCH_SDKS); do build/bench-mcp-$$sdk/bin/python -m benchmarks.soak --seconds $(SECONDS) || exit; done

field: ## run servers and clients of others with this package and without, and write docs/field.md (ARGS=agents)
	@$(PYTHON) -m tests.field $(ARGS)

pictures: $(DEMO_VENV)/stamp .venv/prometheus.stamp ## draw the dashboards of a running demo into docs/
	@PATH="$$PATH:$(CURDIR)/.venv/bin" $(DEMO_VENV)/bin/python -m dashboards.pictures $(ARGS)

clean: ## remove everything that make and tox have made
	rm -rf .venv .tox build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# An editable install reads entry points and dependencies once, at installation: again when pyproject.toml changes.
$(DEMO_VENV)/stamp: pyproject.toml
	$(call make_venv,$(DEMO_VENV))
	@echo "installing this package and $(DEMO_SDK)"
	@$(DEMO_VENV)/bin/python $(PIP_INSTALL) --editable . "$(DEMO_SDK)"
	@touch $@

build/bench-mcp-%/stamp: pyproject.toml
	$(call make_venv,$(@D))
	@echo "installing this package and mcp == $*"
	@$(@D)/bin/python $(PIP_INSTALL) --editable ".[otlp-http]" "mcp == $*"
	@touch $@

.venv/stamp:
	$(call make_venv,.venv)
	@echo "installing tox"
	@.venv/bin/python $(PIP_INSTALL) "tox >= 4.23"
	@touch $@

# Some tests ask a real Prometheus. Where there is none yet, each run tries again to get it.
.venv/prometheus.stamp: .venv/stamp
	@PATH="$(CURDIR)/.venv/bin:$$PATH" tests/get_prometheus.sh .venv
	@if PATH="$(CURDIR)/.venv/bin:$$PATH" command -v prometheus >/dev/null; then touch $@; fi
