# The one way to install, check, test, try and measure. Everything lands in .venv and .tools, here.

PYTHON ?= python3
ARGS ?=
AT_ONCE ?= 3
BIN := .venv/bin
STAMP := .venv/.installed
NATS_COMMAND := github.com/nats-io/natscli/nats@latest

# An environment that was moved with the tree still has the old path in its scripts: it is made anew.
INSTALLED_FOR := $(shell cat $(STAMP) 2>/dev/null)
ifneq ($(INSTALLED_FOR),)
ifneq ($(INSTALLED_FOR),$(CURDIR))
CLEAR := --clear
$(STAMP): ANEW
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-nodes nodes-tools check simulate fuzz bench deb nats clean ANEW

help:  ## list what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)  ## a mesh of one master and three nodes on this machine: watch it work (ARGS=--keep)
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(STAMP) nats  ## all tests, on a real nats-server and real processes (ARGS='-k name', AT_ONCE=1)
	@PATH="$(CURDIR)/.tools/bin:$$PATH" $(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile $(ARGS)

test-nodes: deb nodes-tools  ## the package on real systemd: three nodes in namespaces of this machine; needs root
	@$(BIN)/python -m tests.nodes $(ARGS)

nodes-tools:
	@for need in systemctl:systemd dbus-daemon:dbus ip:iproute2 unshare:util-linux; do \
	command -v $${need%%:*} >/dev/null || echo $${need##*:}; done >.venv/.wanted; \
	if [ -s .venv/.wanted ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "test-nodes: installing" $$(cat .venv/.wanted); apt-get update -q >/dev/null; \
	apt-get install -qq --no-install-recommends $$(cat .venv/.wanted) >/dev/null; fi

deb: $(STAMP)  ## build the Debian package, into dist; everything is in it
	@deploy/debian/build

check: $(STAMP)  ## ruff, mypy strict, the architecture test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

simulate: $(STAMP)  ## the seeded simulation: make simulate SEED=17
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED))

fuzz: $(STAMP)  ## a million inputs for what reads others' bytes (ARGS='--inputs 10000 --target sealed')
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: 'atheris>=3' 2>/dev/null \
	|| echo "fuzz: atheris has no wheel for this Python, so hypothesis makes the inputs"
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(STAMP)  ## floor and mesh measured in one run; writes bench-DATE.json
	@$(BIN)/python -m tests.benchmarks $(ARGS)

nats:  ## install the nats command into .tools/bin, where Go is; without it some tests skip
	@if [ -x .tools/bin/nats ] || command -v nats >/dev/null 2>&1; then :; \
	elif ! command -v go >/dev/null 2>&1; then echo "nats: no Go here, so the tests of inspection will skip"; \
	else echo "nats: installing the command with Go, once"; mkdir -p .tools/bin; \
	GOBIN="$(CURDIR)/.tools/bin" go install $(NATS_COMMAND) >.tools/nats.log 2>&1 \
	|| echo "nats: go install failed, see .tools/nats.log; the tests of inspection will skip"; fi

clean:  ## remove everything that make has made
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build dist

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null \
	|| { echo "there is no $(PYTHON) here; gnt-mesh needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "gnt-mesh needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11"; exit 1; }
	@echo "Setting up .venv (once; a minute or so)"
	@$(PYTHON) -m venv $(CLEAR) .venv \
	|| { echo "no virtual environment can be made: on Debian, apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[broker,dev]'
	@echo '$(CURDIR)' > $@
