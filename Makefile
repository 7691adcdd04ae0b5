# Strongroom's commands. Everything is one Cargo workspace and one profile, so that nothing is built twice.
# `make help` lists them.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
TARGET  ?= $(or $(CARGO_TARGET_DIR),target)

PROGRAMS = strongroom-keyd strongroom-gatewayd strongroom

.DEFAULT_GOAL := help
.PHONY: help build demo check lint unit test attack fuzz bench install uninstall

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the three programs for this machine, unoptimised.
	$(CARGO) build --locked -p strongroom-keyd -p strongroom-gatewayd -p strongroom-ctl

demo: build ## Start the real daemons in a temporary home, send one agent's requests, show who saw what.
	$(TARGET)/debug/strongroom demo

check: lint unit ## Formatting, lints and unit tests; fast enough for a pre-commit hook.

lint: ## Formatting and lints.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

unit: ## The tests that start no daemon.
	$(CARGO) test --locked --workspace --exclude strongroom-tests

test: ## Install what the tests need where that is allowed, then run every test.
	tests/run

attack: ## Be the hostile gateway: try to take a key, and print what held. LONG=1 takes longer.
	tests/attack_table

fuzz: ## Fuzz what peers can send. TARGET=path,scrub SECONDS_EACH=60.
	fuzz/run

# The programs are built as 'install' builds them. ROUNDS=1 ONLY=json-16,sse SUBJECTS=one-process,strongroom is a quick
# look; RECORD=PERFORMANCE.md keeps the tables; HOLD=30 keeps the load on for a profiler.
bench: ## Measure what a request costs: direct, through a plain proxy, nginx and Strongroom. About ten minutes.
	bench/run

# The daemons of an installation are optimised, and what is measured; nothing else is.
install: ## Install the three programs below DESTDIR and PREFIX, optimised.
	$(CARGO) build --locked --release -p strongroom-keyd -p strongroom-gatewayd -p strongroom-ctl
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(addprefix $(TARGET)/release/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin

uninstall: ## Take them away again; homes and vaults stay.
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS))
