# Strongroom's commands. Everything is one Cargo workspace and one profile, so that nothing is built twice.
# `make help` lists them.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
TARGET  ?= $(or $(CARGO_TARGET_DIR),target)

PROGRAMS = strongroom-keyd strongroom-gatewayd strongroom

.DEFAULT_GOAL := help
.PHONY: help build demo check lint unit test attack fuzz deny bench release install uninstall deb sbom

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

deny: ## Check licences, doubles and sources of all dependencies. Installs cargo-deny where there is none.
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check licenses bans sources

# The programs are built as 'install' builds them. ROUNDS=1 ONLY=json-16,sse SUBJECTS=one-process,strongroom is a quick
# look; RECORD=PERFORMANCE.md keeps the tables; HOLD=30 keeps the load on for a profiler.
bench: ## Measure what a request costs: direct, through a plain proxy, nginx and Strongroom. About ten minutes.
	bench/run

# What is installed or packed is optimised, and what is measured; nothing else is.
release:
	$(CARGO) build --locked --release -p strongroom-keyd -p strongroom-gatewayd -p strongroom-ctl --bins --example packaging

install: release ## Install programs, units, manual pages and completions below DESTDIR and PREFIX.
	packaging/install --programs $(TARGET)/release --prefix $(PREFIX) --destdir "$(DESTDIR)"

uninstall: ## Take exactly that away again; configuration and vaults stay.
	packaging/install --uninstall --prefix $(PREFIX) --destdir "$(DESTDIR)"

# Paths of this folder and of Cargo's are kept out of the programs, so that who packs them says nothing about the folder.
CARGO_HOME_ = $(or $(CARGO_HOME),$(HOME)/.cargo)
deb: export RUSTFLAGS = --remap-path-prefix=$(CURDIR)=/usr/src/strongroom --remap-path-prefix=$(CARGO_HOME_)=/usr/src/cargo
deb: release ## Make the Debian package, in target/deb.
	packaging/deb --programs $(TARGET)/release --output $(TARGET)/deb

sbom: ## Say what the programs are made of, as CycloneDX, in target/strongroom.cdx.json.
	$(CARGO) run --locked -q -p strongroom-ctl --example packaging -- sbom $(TARGET)/strongroom.cdx.json
	@echo $(TARGET)/strongroom.cdx.json
