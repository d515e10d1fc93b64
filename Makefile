# make run    start the page (make run ARGS="--port 8000" passes options)
# make test   run the tests   (make test ARGS="tests/cli -x"), two files of them at once (make test WORKERS=0: one after the other)
# make lint   check style, format and types
# make bench  measure, record the results, and write them into the tables
# make serve  serve many, as an NVIDIA NIM does (make serve ARGS="--port 8000 --replicas 2 --backend mini")
#
# Each creates .venv first if it is missing or the requirements have changed. With another Python: make run PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
SERVE_STAMP := $(VENV)/installed-serve
ARGS   ?=
# Python compiles each module when it is first imported. Of 19,000 files 4,000 ever are, and compiling all takes half of the installation.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-compile
WORKERS ?= 2
MEASUREMENTS = $(filter-out readme,$(patsubst benchmarks/%.py,%,$(shell grep -l __main__ benchmarks/*.py)))

# What is compiled is kept, whatever the environment says: each start would compile it anew, and the tests start a hundred programs.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run serve test lint format bench clean

help:
	@sed -n '1,5s/^# //p' Makefile

run: $(STAMP)
	@exec $(BIN)/python app.py $(ARGS)

serve: $(SERVE_STAMP)
	@exec $(BIN)/python -m flux_demo.serve $(ARGS)

test: $(STAMP)
	@exec $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(SERVE_STAMP)
	@failed=; for name in $(MEASUREMENTS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || failed="$$failed $$name"; done; \
	$(BIN)/python -m benchmarks.readme || failed="$$failed readme"; \
	[ -z "$$failed" ] || { echo "Failed, or over a limit:$$failed" >&2; exit 1; }

clean:
	rm -rf .pytest_cache .ruff_cache .mypy_cache build

# The stamp is written last, so that the next make resumes an interrupted installation.
$(STAMP): requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "flux_demo needs Python 3.11 or newer, and \"$(PYTHON)\" is not one. Install it, or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	$(INSTALL) -r requirements.txt -r requirements-dev.txt -c constraints.txt
	@touch $@

$(SERVE_STAMP): $(STAMP) requirements-serve.txt
	$(INSTALL) -r requirements-serve.txt -c constraints.txt
	@touch $@
