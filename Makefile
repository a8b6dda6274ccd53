# make demo: the first result table (demo-atari: that of the discrete half).  make test: the tests.  Both set everything up first.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-atari test test-full test-cluster lint setup peers clean

demo: $(READY)
	$(PY) benchmarks/train.py experiment=demo; status=$$?; \
	$(PY) benchmarks/report.py tables --runs runs --suite demo --figure runs/demo.svg; exit $$status

demo-atari: $(READY)
	$(PY) benchmarks/train.py experiment=demo_atari; status=$$?; \
	$(PY) benchmarks/report.py tables --runs runs --suite demo_atari; exit $$status

test: lint
	$(PY) -m pytest -n auto --dist loadfile -m "not full"

test-full: lint $(READY)-cluster
	$(PY) -m pytest -n auto --dist loadfile -m "not slurm and not ray"
	$(PY) -m pytest -n 0 -rs -m "slurm or ray"

# the launchers that need a scheduler; what cannot be run here is skipped with its reason
test-cluster: $(READY)-cluster
	$(PY) -m pytest -n 0 -rs -m "slurm or ray"

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

setup: $(READY)

# d4rl is only the oracle of a test; its own requirements cannot be installed any more
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt --no-deps d4rl gym gym-notices
	touch $(READY)

# other libraries for benchmarks/speed.py to be measured beside
peers: $(READY)
	$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt --no-deps -r benchmarks/timing/peers.txt

# where something cannot be installed, its tests are skipped and say so
$(READY)-cluster: $(READY)
	-$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt -e '.[dev,cluster]' && touch $@
	-if test "$$(id -u)" = 0 && ! command -v slurmctld >/dev/null; then apt-get -qq update && \
	  apt-get -qq install -y --no-install-recommends slurm-wlm munge >/dev/null; fi

clean:
	rm -rf $(VENV)
