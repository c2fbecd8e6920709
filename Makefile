# Set-up, build, demo and checks. `make` alone builds; every target does the set-up it needs.
#
#   make            the environment (.venv) and the package (install/)
#   make EXTRAS=    the same on a robot: what the node needs alone; EXTRAS="clouds data" adds to it,
#                   and later calls keep the choice
#   make demo       replay a bag into the node, results in demo_output/   [BAG=path of another bag]
#   make test       lint, then the tests, which end with the tenth that fails
#                   [ARGS=more for pytest, JOBS=2 side by side]
#   make lint       ruff, mypy and import-linter alone
#   make docs       this documentation as a site, in build/site
#   make doctor     what is installed here and what is missing
#   make nano       render dkt-nano's data, train and evaluate it (hours)
#   make fusion     render the refiner's data (sensor and network fused), train and evaluate it (hours)
#                   [TRY=1: all of either in minutes, as few scenes and steps as can be]
#   make lock       write requirements/lock.txt from the environment
#   make clean      remove the build; make distclean removes the environment too
#
# With a ROS installation sourced, that one is used; otherwise ROS 2 is installed from wheels.

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: setup build demo test lint docs doctor nano fusion lock clean distclean

in_env := source scripts/env.sh &&
JOBS ?= 2

setup:
	@scripts/setup.sh

build: setup
	@scripts/build.sh

demo: build
	@$(in_env) python -m demo $(if $(BAG),--bag "$(BAG)") --output demo_output

test: lint
	$(in_env) OMP_NUM_THREADS=1 DKT_TEST_REQUIRE=ros,docs pytest -n $(JOBS) --dist loadfile --maxfail 10 --max-worker-restart 0 $(ARGS)

lint: build
	@$(in_env) failed=0; \
	for check in "ruff check" "ruff format --check" "mypy" "lint-imports --no-logo"; do \
	  echo "lint: $$check"; $$check || failed=1; \
	done; exit $$failed

docs: build
	@$(in_env) scripts/docs.sh

doctor: build
	@$(in_env) dkt doctor

nano: build
	@$(in_env) scripts/make_nano.sh

fusion: build
	@$(in_env) scripts/make_fusion.sh

lock: setup
	.venv/bin/python scripts/lock_requirements.py > requirements/lock.txt.new
	mv requirements/lock.txt.new requirements/lock.txt

clean:
	rm -rf build install log demo_output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

distclean: clean
	rm -rf .venv .setup
