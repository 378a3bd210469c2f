# The verbs of this project. `make` alone lists them.
# Nothing has to be prepared: each verb calls `setup` first, and says so when it needs root and for what.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.NOTPARALLEL:

PY := .venv/bin/python

# make bench ONLY=parse_time,arrival
ONLY ?=
# make faults N=100 SEED=7 ONLY=vm_power_cut,vm_link_cut (then: .venv/bin/python -m lab down --site test)
N ?= 20
SEED ?= 1

.PHONY: help setup root lab-install demo down test lint format bench faults lock clean

help:  ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup:  ## Make the environment in .venv from requirements.txt (a no-op when it is up to date)
	@PYTHON="$(PYTHON)" tools/setup.sh

root:
	@if [ "$$(id -u)" != 0 ]; then \
	  echo "This needs root. It would install Debian packages with apt-get (sshd, samba, docker.io, docker-registry, mmdebstrap, debsecan)," >&2; \
	  echo "make network namespaces named el-* with addresses in 10.77.0.0/16, and start the lab's servers in them." >&2; \
	  echo "It keeps its state in /var/lib/edgeloop and /var/cache/edgeloop and touches nothing else. Next: sudo make $(MAKECMDGOALS)" >&2; \
	  exit 1; \
	fi

lab-install: root setup  ## Install what the lab's servers need (root: apt-get; nothing is started)
	@$(PY) -m lab install

demo: root setup lab-install  ## Drive the whole loop on real data and prove every step (root; leaves the lab and Airflow up)
	@$(PY) -m lab.demo

down: root setup  ## Stop the demo: Airflow, devices, VM, blob, share, registry, PostgreSQL (root)
	@$(PY) -m lab.demo down

lint: setup  ## ruff with all rules, mypy strict on include/edgeloop
	@$(PY) -m ruff check .
	@$(PY) -m mypy

format: setup  ## Let ruff repair what it can
	@$(PY) -m ruff check --fix --exit-zero .
	@$(PY) -m ruff format .

test: root setup lab-install lint  ## Lint, then every test, in three runs at once with a lab site each (root; 35 to 45 minutes after set-up)
	@tools/test.sh

bench: root setup lab-install  ## Measure every figure against its bar, or some: ONLY=name,name (root)
	@ONLY="$(ONLY)" $(PY) -m benchmarks

faults: root setup lab-install  ## Break parts at random points: N= rounds, SEED= of the points, ONLY= these kinds (root; leaves its site up only if something broke)
	@$(PY) -m lab.campaign --number "$(N)" --seed "$(SEED)" --only "$(ONLY)"

lock: setup  ## Compile requirements.txt, and those of the images at the same versions, with hashes
	@.venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 requirements.in -o requirements.txt
	@for image in scorer trainer; do \
	  .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 --constraint requirements.txt \
	    include/images/$$image/requirements.in -o include/images/$$image/requirements.txt; \
	done

clean:  ## Remove build/ and caches; .venv and the lab's state stay (rm -rf .venv, make down)
	@rm -rf build .pytest_cache .ruff_cache .mypy_cache *.egg-info .venv.lock
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
