# make demo   the main job: an own virtual environment, install, train and judge an RBM on Binary AlphaDigits into out/
# make test   an own virtual environment, install, the whole test suite
# Any Python from 3.11 on serves: make PYTHON=python3.12 test

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
DEMO_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist worksteal
EVIDENCE_ARGS ?=

BIN := $(VENV)/bin
DEMO := $(VENV)/.demo-installed
DEV := $(VENV)/.dev-installed
ARVIZ1 := $(VENV)/arviz1
SMOKE := .venv-smoke
NATIVE := $(wildcard pyro_gen/kernels/native/src/*)
CHECKED := pyro_gen tests $(wildcard examples benchmarks tools docs/conf.py)

# The build back end is pinned too: old versions of pip read the first, pip 25.3 and later the second.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The suite spreads over processes, so each keeps to one thread.
ONE_THREAD := OMP_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: demo test test-arviz1 evidence examples readme lint format types doctest docs dist smoke clean distclean
.DELETE_ON_ERROR:

demo: $(DEMO)
	$(BIN)/python examples/rbm_alphadigits.py --out $(OUT) $(DEMO_ARGS)

test: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS)
	$(MAKE) test-arviz1

# Python 3.11 installs ArviZ 0.2x. ArviZ 1.x declares 3.12 but runs on 3.11, so the bridge is tested against both lines in one environment.
test-arviz1: $(ARVIZ1)/.installed
	$(ONE_THREAD) PYTHONPATH=$(CURDIR)/$(ARVIZ1) $(BIN)/python -c "import arviz; assert arviz.__version__.startswith('1.'), arviz.__version__"
	$(ONE_THREAD) PYTHONPATH=$(CURDIR)/$(ARVIZ1) $(BIN)/python -m pytest $(PYTEST_ARGS) tests/arviz

# Long: the tests marked slow, then every command behind a reported figure; benchmarks/evidence.py is the list. What is done at this
# commit is skipped. make EVIDENCE_ARGS="--only iwae galaxies" evidence runs some of it, EVIDENCE_ARGS=--list shows all.
evidence: $(DEV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.evidence $(EVIDENCE_ARGS)

examples: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m pytest tests/test_examples.py

readme: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m pytest tests/test_readme.py

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)
	$(BIN)/mypy $(CHECKED)

doctest: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m pytest --doctest-modules pyro_gen --ignore-glob='*/kernels/*triton*' # they import Triton

docs: $(DEV)
	rm -rf docs/generated docs/_build
	$(ONE_THREAD) $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

dist: $(DEV)
	rm -rf dist build
	$(BIN)/python -m build --outdir dist

# Wheel and sdist, each installed where nothing else is and used from outside the checkout.
smoke: dist
	rm -rf $(SMOKE)
	$(PYTHON) -m venv $(SMOKE)
	$(SMOKE)/bin/python -m pip install -c constraints.txt dist/*.whl
	cd / && "$(CURDIR)/$(SMOKE)/bin/python" -I "$(CURDIR)/tools/smoke_wheel.py"
	$(SMOKE)/bin/python -m pip install --no-deps --force-reinstall dist/*.tar.gz
	cd / && "$(CURDIR)/$(SMOKE)/bin/python" -I "$(CURDIR)/tools/smoke_wheel.py"
	rm -rf $(SMOKE)

clean:
	rm -rf build dist docs/_build docs/generated .mypy_cache .pytest_cache .ruff_cache $(SMOKE) *.egg-info
	find . -name __pycache__ -not -path "./$(VENV)/*" -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(OUT)

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'pyro_gen needs Python 3.11 or later: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e ".[arviz,plot,examples]"
	touch $@

$(DEV): pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@ $(DEMO)

$(ARVIZ1)/.installed: $(DEV)
	rm -rf $(ARVIZ1)
	PIP_CONSTRAINT= $(BIN)/python -m pip install --no-deps --ignore-requires-python --target $(ARVIZ1) \
		"arviz==$$(sed -n 's/^arviz==\(1[^ ]*\).*/\1/p' constraints.txt)" $$(grep -E '^(arviz-|lazy_loader)' constraints.txt)
	touch $@
