# One command for each thing one does here; CI runs the same ones. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/zenith

# On CI the checkout is thrown away, so what is costly to make lives in the cache, keyed by what it is made from.
ifeq ($(CI),true)
key = $(shell cat $(1) <($(PYTHON) --version) | sha256sum | cut -c1-16)
VENV := $(CACHE)/venv-$(call key,requirements/dev.txt)
export CARGO_TARGET_DIR ?= $(CACHE)/target-$(call key,Cargo.lock rust-toolchain.toml)
else
VENV := $(CURDIR)/.venv
endif

PY := .venv/bin/python
WHEELS := dist
# The tree under test wins over whatever the environment has installed.
export PYTHONPATH := $(CURDIR)/python
# An extension module must not link libpython; set for every cargo call so that none rebuilds what another built.
export PYO3_BUILD_EXTENSION_MODULE := 1

REQUIREMENTS := $(VENV)/.requirements-$(shell sha256sum requirements/dev.txt | cut -c1-16)
# In the checkout, because the built files are: an environment may serve several checkouts.
BUILT := build/.built-$(shell cksum <<< "$(VENV)" | cut -d' ' -f1)
SOURCES := $(shell find rust cpp -type f -not -path '*/tests/*') \
	Cargo.toml Cargo.lock rust-toolchain.toml pyproject.toml setup.py requirements/xla.txt scripts/xla_headers.py

.PHONY: help setup demo test test-slurm soak differential lint format sanitize bench bench-host tch-example wheel audit-wheel torch-matrix jax-matrix clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: $(BUILT) ## Make .venv, install what is pinned, build the engine, the torch and the XLA module. Quick when nothing changed.

$(REQUIREMENTS): requirements/dev.txt
	PYTHON=$(PYTHON) scripts/prerequisites.sh
	if [[ ! -x $(VENV)/bin/python ]]; then mkdir -p $(dir $(VENV)); $(PYTHON) -m venv $(VENV); fi
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	touch $@

$(BUILT): $(REQUIREMENTS) $(SOURCES)
	if [[ $(VENV) != $(CURDIR)/.venv ]]; then ln -sfn $(VENV) .venv; fi
	ZENITH_BUILD_TORCH=1 ZENITH_BUILD_JAX=1 $(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	$(PY) -c 'import zenith_torch, zenith_jax; zenith_jax.register()'
	mkdir -p build && rm -f build/.built-* && touch $@

demo: setup ## Show what Zenith does.
	$(PY) -m examples.demo $(ARGS)

test: setup ## Run every test: Rust, the link, Python. Ends with a summary.
	scripts/test.sh $(ARGS)

test-slurm: setup ## Run the tests under a real Slurm; as root, install it from Debian's packages where it is missing.
	PATH=$$PATH:/usr/sbin; type munged slurmctld slurmd sbatch > /dev/null 2>&1 || { \
		apt-get -qq update; apt-get -qq install --no-install-recommends munge slurmctld slurmd slurm-client; }
	ZENITH_REQUIRE_SLURM=1 $(PY) -m pytest -q -rs tests/cluster/slurm $(ARGS)

soak: setup ## Interrupt loaders, and kill workers, at 200 random moments each, gangs at 600 (make test does 4 or 20).
	ZENITH_SOAK=200 $(PY) -m pytest -q -rP tests/torch/test_faults.py tests/torch/process/test_soak.py -k random_moments $(ARGS)
	cargo build --release --locked -p zenith-cluster --example gang
	ZENITH_SOAK=600 cargo test --release --locked -p zenith-cluster random_moments -- --nocapture

differential: setup ## Record what torchrun makes of the command lines that zenith-run is compared on (minutes).
	$(PY) -m tests.cluster.differential.record $(ARGS)

lint: setup ## Check formatting, lints, types and stubs; changes no source.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict
	.venv/bin/python -m mypy.stubtest zenith._engine zenith_torch._C
	.venv/bin/clang-format --dry-run --Werror $(shell find cpp -name '*.h' -o -name '*.cpp')

format: $(REQUIREMENTS) ## Format Rust, Python and C++.
	cargo fmt --all
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .
	.venv/bin/clang-format -i $(shell find cpp -name '*.h' -o -name '*.cpp')

sanitize: ## Run the tests of the crates with unsafe code under AddressSanitizer; needs a nightly Rust.
	# What a device may still read is leaked on purpose, and tests make that happen.
	mkdir -p target/sanitize && echo leak:zenith_cuda > target/sanitize/leaks
	LSAN_OPTIONS=suppressions=$(CURDIR)/target/sanitize/leaks \
		RUSTFLAGS=-Zsanitizer=address cargo +nightly test --locked --target-dir target/sanitize \
		--target $$(rustc -vV | sed -n 's/host: //p') -p zenith-host -p zenith-io -p zenith-cuda \
		--lib --test lifetime

bench: setup ## Compare loaders on this machine, peers in an environment of their own: make bench ARGS="...".
	$(PY) -m benchmarks.loaders.environment $(ARGS)
	.venv-bench/bin/python -m benchmarks.loaders $(ARGS)

bench-host: ## Compare rings, channels, slab pools and allocators on this machine, and time topology discovery.
	cargo bench --locked -p zenith-host --bench host

# libtorch is the one of the environment's torch. All of the workspace is asked for, so that what the tests built serves.
tch-example: $(REQUIREMENTS) ## Train from Rust with libtorch (crate tch) on a loader's own memory; builds for minutes once.
	PATH=$(CURDIR)/.venv/bin:$$PATH LIBTORCH_USE_PYTORCH=1 \
		LD_LIBRARY_PATH=$$($(PY) -c 'import torch; print(torch.__path__[0])')/lib \
		cargo run --locked --features zenith/tch --example tch

wheel: setup ## Build the one wheel (Python 3.10 and newer, torch 2.11 and newer) into dist/.
	rm -rf $(WHEELS) build/lib* build/bdist* # What an earlier build left there would end up in the wheel.
	ZENITH_BUILD_TORCH=1 ZENITH_BUILD_JAX=1 $(PY) -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps -w $(WHEELS) .
	ls -l $(WHEELS)

audit-wheel: wheel ## Check what the wheel's libraries import, and print the glibc it needs.
	$(PY) scripts/audit_wheel.py $(WHEELS)/*.whl

torch-matrix: wheel ## Run tests/torch with the wheel on torch 2.11, 2.13 and the newest. Downloads each torch once.
	CACHE=$(CACHE) PYTHON=$(PYTHON) scripts/torch_matrix.sh $(WHEELS)/*.whl

jax-matrix: wheel ## Run tests/jax with the wheel on jax 0.9.1 and the newest, with one device and with eight.
	CACHE=$(CACHE) PYTHON=$(PYTHON) scripts/jax_matrix.sh $(WHEELS)/*.whl

clean: ## Remove what was built here; keep the environment.
	rm -rf build dist python/*.egg-info python/zenith/*.so python/zenith_torch/*.so python/zenith_jax/*.so
	cargo clean --quiet
