PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/pytest -n

.PHONY: install demo test check bench soak clean lock

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -c "import ml.counters.kernels, ml.features.kernel, ml.models.kernel, ml.models.rows_kernel"  # compiles them, once
	@touch $@

demo: install
	$(BIN)/impledger demo

# three, for slow tests mostly wait for processes
test: install
	$(PYTEST) 3 -m "not soak"

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) 2 -m "not slow and not soak"

bench: install
	$(BIN)/impledger bench

soak: install
	$(BIN)/pytest -m soak

lock: install
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
