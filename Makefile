# Everything starts from a bare checkout: `make demo`, `make test`. Set-up happens by itself, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
NATIVE := CMakeLists.txt $(wildcard cmake/*.cmake csrc/*.cpp csrc/*.h csrc/kernels/*.cpp csrc/kernels/*.h)

.PHONY: help setup demo test lint format stubs wheel bench fuzz soak clean
help:
	@echo "make demo               train SimCLR on real images, see the accuracy table and the views"
	@echo "make demo DATA=FOLDER   the same on your images: one sub-folder a class"
	@echo "make test               install and run the tests"
	@echo "make bench              the benchmark behind the README's figures"
	@echo "make fuzz SECONDS=600   damaged files and JPEGs against a core built with sanitizers"
	@echo "make wheel              dist/*.whl, which needs nothing of the system's"
	@echo "make lint | format      ruff, pyright, clang-format"

setup: $(READY)

$(READY): pyproject.toml requirements-dev.lock scripts/setup.sh $(NATIVE)
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh
	@touch $@

demo: $(READY)
	@$(BIN)/python examples/demo.py $(if $(DATA),--data "$(DATA)")

test: $(READY)
	@$(BIN)/python -m pytest

bench: $(READY)
	@$(BIN)/python benchmarks/views.py

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright
	@$(BIN)/clang-format --dry-run --Werror csrc/*.cpp csrc/*.h csrc/kernels/*.cpp csrc/kernels/*.h

format: $(READY)
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	@$(BIN)/clang-format -i csrc/*.cpp csrc/*.h csrc/kernels/*.cpp csrc/kernels/*.h

# Damaged files and JPEGs against a core built with sanitizers: make fuzz SECONDS=600
SECONDS ?= 600
fuzz: $(READY)
	@sh scripts/fuzz.sh $(SECONDS)

# Ten thousand batches: does memory grow?
soak: $(READY)
	@$(BIN)/python scripts/soak.py

# A wheel with all that it needs: dist/*.whl
wheel: $(READY)
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/wheel.sh

stubs: $(READY)
	@$(BIN)/python -m nanobind.stubgen -q -m ffcv._core -o src/ffcv/_core.pyi

clean:
	@rm -rf $(VENV) build dist demo runs .pytest_cache .ruff_cache .hypothesis
