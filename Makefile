# The two commands of a newcomer are `make image` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
RECIPE ?= worker
OUT ?= out
export PATH := $(HOME)/.cargo/bin:$(PATH):$(or $(XDG_DATA_HOME),$(HOME)/.local/share)/bootwright/go/bin:/usr/sbin:/sbin
BOOTWRIGHT := target/release/bootwright

.PHONY: help image test test-workspace test-ram-pid1 build lint deny advisories fuzz bench bench-before performance memory soak zoo test-patches setup-image setup-test

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

image: setup-image build ## Set up what is missing, build RECIPE (worker) into OUT (out) and boot it in QEMU
	$(BOOTWRIGHT) build --recipe $(RECIPE) --out $(OUT)
	$(BOOTWRIGHT) smoke --recipe $(RECIPE) --out $(OUT)

# A suite that fails keeps none behind it from being run: `make test` fails at the end.
test: setup-test lint ## Set up what is missing and run all tests, those in virtual machines too
	$(MAKE) --no-print-directory --keep-going test-workspace test-ram-pid1 fuzz

test-workspace:
	cargo test --workspace --locked --no-fail-fast

# PID1 as images without network roots have it. Its tests mostly wait.
test-ram-pid1:
	cargo test --locked --no-fail-fast --package bootwright-init --no-default-features -- --test-threads 16

build: ## Build the tool, with PID1 in it
	cargo build --release --locked

lint: deny ## Formatting, clippy, licences and origins of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --test soak --test zoo --locked -- -D warnings
	cargo clippy --package bootwright-init --no-default-features --all-targets --locked -- -D warnings

deny: ## Licences, bans and origins of all dependencies (deny.toml)
	@command -v cargo-deny >/dev/null || { echo "error: cargo-deny is not installed" >&2; echo "  help: run scripts/setup.sh test" >&2; exit 1; }
	cargo deny --locked check licenses bans sources

# Not part of `lint`: what was right yesterday may be known to be wrong today, and it wants the network.
advisories: deny ## Known faults in dependencies, by the database that RustSec keeps
	@cargo deny fetch db || { echo "error: the database of advisories cannot be fetched: nothing was checked" >&2; exit 1; }
	cargo deny --offline --locked check advisories

fuzz: ## Run each fuzz target for a bounded number of runs
	fuzz/run

bench: setup-test build ## Measure sizes, boot times and build times; prints a table
	benches/run.sh

bench-before: setup-test build ## Boot each root with this commit and with BEFORE=COMMIT, in turns; prints their ratios
	benches/run.sh before

performance: setup-test build ## Measure boot files, bytes and seconds of each worker and root; writes the table of docs/performance.md
	benches/run.sh performance

memory: setup-test build ## Boot each worker and root with several RAM sizes and compare what pods have with the model; the table of docs/memory.md
	benches/run.sh memory

soak: setup-test ## Kill and restore each server of a root at random for SOAK_MINUTES (20), under load
	cargo test --locked --test soak

zoo: setup-test ## Let pods loose that take all of one thing, on joined nodes, for ZOO_MINUTES (10) each
	cargo test --locked --test zoo

# Upstream's tests want root and a network namespace of their own.
test-patches: setup-test ## Run upstream's own tests of each package that a patch changes, on both sources
	scripts/test-patches.sh

setup-image:
	@scripts/setup.sh image

setup-test:
	@scripts/setup.sh test
