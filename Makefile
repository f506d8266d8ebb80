# 'make' lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# For the demonstration: --slow waits after each step. For the tests: any options of pytest.
ARGS ?=
# How many processes run the tests. 0: none beside pytest itself, for --pdb, -s and the like; it takes twice as long.
PROCESSES ?= 2
# Groups of tests begin in the order of tests/lab/turns.py.
SHARED_OUT := -n $(PROCESSES) --dist loadgroup --no-loadscope-reorder

# program:package of Debian
PROGRAMS := ovs-vswitchd:openvswitch-switch ovsdb-server:openvswitch-switch ovs-ofctl:openvswitch-switch \
	mnexec:mininet ifconfig:net-tools ip:iproute2 ping:iputils-ping \
	ethtool:ethtool setpriv:util-linux unshare:util-linux nsenter:util-linux \
	traceroute:traceroute iperf3:iperf3 openssl:openssl \
	ovn-northd:ovn-central ovn-controller:ovn-host

# What the benchmark compares with, besides.
PEERS := ovs-testcontroller:openvswitch-testcontroller cc:gcc taskset:util-linux

# What the compiled modules are tested with: all that runs them without a switch.
COMPILED_TESTS := $(foreach layer,unit property,$(wildcard \
	tests/$(layer)/controller tests/$(layer)/openflow tests/$(layer)/openflow_driver tests/$(layer)/packet))

.DEFAULT_GOAL := help
.PHONY: help compiled test-compiled setup deps-root demo demo-ovn demo-simulated test lint bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv with the package installed: then .venv/bin/netvirt runs

deps-root: ## install the Debian packages that the demonstration and the tests need, if missing
	@$(call install,$(PROGRAMS))

demo: deps-root $(VENV)/.installed-demo ## show it on real switches, as root; ARGS=--slow pauses
	@$(BIN)/python -m demo $(ARGS)

demo-ovn: deps-root $(VENV)/.installed-demo ## tell the same story on OVN, as root
	@$(BIN)/python -m demo --ovn $(ARGS)

demo-simulated: $(VENV)/.installed-demo ## tell the same story in memory, without root
	@$(BIN)/python -m demo --simulated $(ARGS)

test: deps-root $(VENV)/.installed-dev ## run all tests; those that need root are skipped without it
	$(BIN)/pytest $(SHARED_OUT) $(ARGS)

compiled: build/compiled/.built ## compile the hot path: PYTHONPATH=build/compiled runs it, in a minute

test-compiled: build/compiled/.built ## run the tests of the controller and the codec on the compiled hot path
	NETVIRT_COMPILED=1 PYTHONPATH=build/compiled \
		$(BIN)/pytest $(SHARED_OUT) $(COMPILED_TESTS) $(ARGS)

lint: $(VENV)/.installed-dev ## ruff, mypy --strict, import rules; the Python of all pages type-checked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/check_types.py

bench: bench-programs build/compiled/.built ## measure all beside others, as root, in ten minutes; writes docs/performance.md
	@$(BIN)/python -m benchmarks --report $(ARGS)

bench-quick: bench-programs build/compiled/.built ## the same on a small scale, in two minutes; ARGS=setup for one part
	@$(BIN)/python -m benchmarks --quick $(ARGS)

bench-promises: bench-programs $(VENV)/.installed-dev ## measure limits and promises, as root, in two minutes; writes a table in docs/qos.md
	@$(BIN)/python -m benchmarks.promises --report $(ARGS)

.PHONY: bench-quick bench-promises bench-programs
bench-programs:
	@$(call install,$(PROGRAMS) $(PEERS))

docs: $(VENV)/.installed-docs ## write the generated pages, build the site into build/site, check all links
	@$(BIN)/python docs/check.py --write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@$(BIN)/python docs/check.py --site build/site

clean: ## remove what can be made again
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# A directory of its own, so that an old extension module is never imported instead of a source that changed.
build/compiled/.built: pyproject.toml hatch_build.py $(shell find src -name '*.py') | $(VENV)/.installed-dev
	@$(call install,cc:gcc)
	@$(BIN)/python -c 'import sys, sysconfig; from pathlib import Path; \
		sys.exit(not Path(sysconfig.get_path("include"), "Python.h").exists())' || \
		{ $(call install,:python3-dev); }
	@rm -rf build/compiled
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --target build/compiled .
	@touch $@

# The stamps say which extras are installed; pyproject.toml says what these are.

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call install,:python3-venv); }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-demo

# Installs the packages of those programs that are not there (an empty program never is). Packages that
# bring a daemon would start it: a policy of refusal is in force meanwhile, and RUNLEVEL=1 for those
# that look there. Says what to do if it cannot: not root, or not Debian.
define install
	missing=; \
	for pair in $(1); do \
		program=$${pair%%:*}; package=$${pair#*:}; \
		[ -n "$$program" ] && command -v "$$program" >/dev/null && continue; \
		case " $$missing " in *" $$package "*) ;; *) missing="$$missing $$package";; esac; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "Not installed, and this is not Debian:$$missing. Install what your system calls these."; exit 0; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo "Not installed:$$missing. As root: apt-get install$$missing"; exit 0; \
	fi; \
	policy=/usr/sbin/policy-rc.d; mine=; \
	if [ ! -e $$policy ]; then mine=1; printf '#!/bin/sh\nexit 101\n' > $$policy; chmod 755 $$policy; fi; \
	trap '[ -z "$$mine" ] || rm -f '$$policy EXIT; \
	trap 'exit 130' INT TERM; \
	echo "Installing:$$missing"; \
	export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
	apt-get -qq update && apt-get -qq install --yes --no-install-recommends $$missing >/dev/null
endef
