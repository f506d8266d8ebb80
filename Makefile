# 'make' lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# For the demonstration: --slow pauses after each step. For the tests: options of pytest.
ARGS ?=
# Number of test processes. 0 runs the tests in the pytest process itself, for --pdb or -s, in four times the time.
PROCESSES ?= 4
# Groups of tests start in the order set by tests/support/xdist.py.
SHARED_OUT := -n $(PROCESSES) --dist loadgroup --no-loadscope-reorder

# program:package of Debian
PROGRAMS := ovs-vswitchd:openvswitch-switch ovsdb-server:openvswitch-switch ovs-ofctl:openvswitch-switch \
	mnexec:mininet ifconfig:net-tools ip:iproute2 ping:iputils-ping \
	ethtool:ethtool setpriv:util-linux unshare:util-linux nsenter:util-linux \
	traceroute:traceroute iperf3:iperf3 openssl:openssl \
	ovn-northd:ovn-central ovn-controller:ovn-host promtool:prometheus \
	systemd-analyze:systemd groff:groff-base curl:curl \
	chromium:chromium

# Needed only by the benchmarks: the programs that libnetvirt is compared with.
PEERS := ovs-testcontroller:openvswitch-testcontroller cc:gcc taskset:util-linux

# The tests of the compiled modules that need no switch.
COMPILED_TESTS := $(foreach layer,unit property,$(wildcard \
	tests/$(layer)/controller tests/$(layer)/openflow tests/$(layer)/drivers/openflow tests/$(layer)/packet))

.DEFAULT_GOAL := help
.PHONY: help compiled test-compiled setup deps-root demo demo-ovn demo-simulated test lint bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## install the package into .venv

deps-root: ## install missing Debian packages, as root
	@$(call install,$(PROGRAMS))

demo: deps-root $(VENV)/.installed-demo ## demonstrate on Open vSwitch, as root; ARGS=--slow pauses
	@$(BIN)/python -m demo $(ARGS)

demo-ovn: deps-root $(VENV)/.installed-demo ## demonstrate on OVN, as root
	@$(BIN)/python -m demo --ovn $(ARGS)

demo-simulated: $(VENV)/.installed-demo ## demonstrate on simulated switches, without root
	@$(BIN)/python -m demo --simulated $(ARGS)

test: deps-root $(VENV)/.installed-dev ## run all tests; without root, skip those that need it
	$(BIN)/pytest $(SHARED_OUT) $(ARGS)

compiled: build/compiled/.built ## compile the hot path into build/compiled (a minute)

test-compiled: build/compiled/.built ## test controller and codec with the compiled hot path
	NETVIRT_COMPILED=1 PYTHONPATH=build/compiled \
		$(BIN)/pytest $(SHARED_OUT) $(COMPILED_TESTS) $(ARGS)

system-files: $(VENV)/.installed ## write unit, manual pages and completion into build/system
	@$(BIN)/netvirt config files build/system

lint: $(VENV)/.installed-dev ## ruff, mypy --strict, import rules, words; the Python of all pages type-checked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/check_types.py
	$(BIN)/python docs/words.py

fuzz-api: $(VENV)/.installed-dev ## fuzz the HTTP interface for 30 minutes; ARGS='--minutes 5' for less
	@$(BIN)/python -m tests.fuzz_api $(ARGS)

load-api: $(VENV)/.installed-dev ## put a netvirtd under load (10 minutes or more); ARGS=pages for a part
	@$(BIN)/python -m tests.load_api $(ARGS)

mutants: $(VENV)/.installed-mutants ## mutation tests (hours); ARGS='libnetvirt/openflow --sample 5' for some
	@$(BIN)/python -m tests.mutants $(ARGS)

bench: bench-programs build/compiled/.built ## benchmark, write docs/performance.md (root, 12 minutes)
	@$(BIN)/python -m benchmarks --report $(ARGS)

bench-quick: bench-programs build/compiled/.built ## small benchmarks (root, 4 minutes); ARGS=setup for one
	@$(BIN)/python -m benchmarks --quick $(ARGS)

bench-promises: bench-programs $(VENV)/.installed-dev ## measure guarantees, write docs/qos.md (root, 2 minutes)
	@$(BIN)/python -m benchmarks.promises --report $(ARGS)

.PHONY: bench-quick bench-promises bench-programs mutants fuzz-api load-api system-files
bench-programs:
	@$(call install,$(PROGRAMS) $(PEERS))

docs: $(VENV)/.installed-docs ## write the generated pages, build the site into build/site, check all links
	@$(BIN)/python docs/check.py --write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@$(BIN)/python docs/check.py --site build/site

clean: ## remove everything that can be rebuilt
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# Not beside the sources, so that no stale extension module is imported instead of a changed source.
build/compiled/.built: pyproject.toml hatch_build.py $(shell find src -name '*.py') | $(VENV)/.installed-dev
	@$(call install,cc:gcc)
	@$(BIN)/python -c 'import sys, sysconfig; from pathlib import Path; \
		sys.exit(not Path(sysconfig.get_path("include"), "Python.h").exists())' || \
		{ $(call install,:python3-dev); }
	@rm -rf build/compiled
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --target build/compiled .
	@touch $@

# The stamp files record which extras of pyproject.toml are installed.

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

$(VENV)/.installed-mutants: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutants]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-demo $(VENV)/.installed-dev

# Installs the packages of the programs that are missing (an empty program name always is). A package with
# a daemon would start it: policy-rc.d denies that during the installation, and RUNLEVEL=1 is for packages
# that look at the run level. Without root, or on another system than Debian, prints what to install.
define install
	missing=; \
	for pair in $(1); do \
		program=$${pair%%:*}; package=$${pair#*:}; \
		[ -n "$$program" ] && command -v "$$program" >/dev/null && continue; \
		case " $$missing " in *" $$package "*) ;; *) missing="$$missing $$package";; esac; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "Missing Debian packages:$$missing. Install the equivalent packages of your system."; exit 0; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo "Missing packages:$$missing. Install them as root: apt-get install$$missing"; exit 0; \
	fi; \
	policy=/usr/sbin/policy-rc.d; mine=; \
	if [ ! -e $$policy ]; then mine=1; printf '#!/bin/sh\nexit 101\n' > $$policy; chmod 755 $$policy; fi; \
	trap '[ -z "$$mine" ] || rm -f '$$policy EXIT; \
	trap 'exit 130' INT TERM; \
	echo "Installing:$$missing"; \
	export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; \
	apt-get -qq update && apt-get -qq install --yes --no-install-recommends $$missing >/dev/null
endef
