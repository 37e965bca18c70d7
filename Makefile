# SPDX-License-Identifier: Apache-2.0
#
# The commands of the project. `make` alone lists them.

BUILD := build
PYTHON := .venv/bin/python
# What CMake is told when build/ is made; e.g. CMAKE_FLAGS=-DMOE_SANITIZE=OFF.
CMAKE_FLAGS ?=
JOBS ?=
NINJA := ninja -C $(BUILD) $(if $(JOBS),-j$(JOBS))
# The build folder's programs and library, and the Python sources as they are.
RUN_PYTHON := env PATH="$(CURDIR)/$(BUILD)/bin:$$PATH" PYTHONPATH="$(CURDIR)/python" \
  MOE_MLIR_LIBRARY="$(CURDIR)/$(BUILD)/lib/libmoe_mlir.so" \
  MOE_MLIR_COMPILER="$(CURDIR)/$(BUILD)/bin/moe-compile" $(PYTHON)
# Found without git: a clone of another user's, which git refuses to list, would
# pass the format check with no file at all.
SOURCES = $(shell find cmake include lib test tools unittests -name '*.cpp' -o -name '*.c' -o -name '*.h')
PYTEST = $(RUN_PYTHON) -m pytest python/tests -q -rs --durations=10

.DEFAULT_GOAL := help
.PHONY: help setup build demo test lit unit pytest wheel docs format check-format fuzz bench gpu-test clean

help: ## list these commands
	@echo 'moe-mlir: a compiler for sparse Mixture-of-Experts layers'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the build needs: apt packages (as root) and .venv
	@scripts/setup

$(BUILD)/build.ninja: | setup
	@echo 'configuring $(BUILD)/; a cold build takes a few minutes on two cores'
	cmake -G Ninja -B $(BUILD) -DMOE_SANITIZE=ON -DPython3_EXECUTABLE=$(CURDIR)/$(PYTHON) \
	  $(if $(MLIR_DIR),-DMLIR_DIR=$(MLIR_DIR)) $(CMAKE_FLAGS) >$(BUILD).configure.log 2>&1 \
	  || { tail -30 $(BUILD).configure.log; exit 1; }
	@mv $(BUILD).configure.log $(BUILD)/configure.log

build: setup $(BUILD)/build.ninja ## configure and build everything in build/
	$(NINJA)

demo: build ## train a small MoE language model in PyTorch and compiled, and compare
	$(RUN_PYTHON) examples/language_model.py

test: build lit unit pytest ## build, then lit, C++ unit tests and pytest

lit: build ## the lit tests only
	$(NINJA) check-lit

unit: build ## the C++ unit tests only
	ctest --test-dir $(BUILD) --output-on-failure --no-tests=error

pytest: build ## the Python tests only; ARGS='-k name' for some of them
	$(PYTEST) $(ARGS)

wheel: setup ## an optimised build in build-wheel/, packed into dist/*.whl
	scripts/make-wheel

docs: build ## the dialect and pass reference, generated into build/docs
	$(NINJA) mlir-doc

format: setup ## format the C++ sources in place
	@clang-format-22 -i $(SOURCES)

check-format: setup ## fail on sources that `make format` would change
	@clang-format-22 --dry-run -Werror $(SOURCES)
	@echo 'formatted: $(words $(SOURCES)) files'

fuzz: build ## new random programs against the oracle, for MINUTES=5; SEED= repeats
	$(BUILD)/bin/moe-fuzz --seed=$(or $(SEED),$$(date +%s)000) --minutes=$(or $(MINUTES),5) \
	  --jobs=$$(nproc) --failures=$(BUILD)/fuzz
	MOE_FUZZ_EXAMPLES=$$((20 * $(or $(MINUTES),5))) $(PYTEST) -k random_layers

bench: build ## layers against torch, on a GPU where torch finds one; DEVICE=cpu|cuda, ARGS
	@device=$(or $(DEVICE),$$($(RUN_PYTHON) -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')); \
	case $$device in \
	  cuda) set -- moe_mlir.bench ;; \
	  cpu) set -- benchmarks ;; \
	  *) echo "DEVICE is '$$device', expected cpu or cuda" >&2; exit 1 ;; \
	esac; \
	echo "$(PYTHON) -m $$1 $(ARGS)"; $(RUN_PYTHON) -m $$1 $(ARGS)

gpu-test: $(if $(WHEEL),,build) ## the tests that need an NVIDIA GPU; WHEEL=1 PYTHON=python3: of an installed wheel
	$(if $(WHEEL),$(PYTHON) -m pytest python/tests -q -rs,$(PYTEST)) -m gpu $(ARGS)

clean: ## remove build/, build-wheel/ and dist/
	rm -rf $(BUILD) build-wheel dist
