# make demo: an environment and the embedded example. make test: an environment and the tests, except the long ones
# (marked `slow`); make test-all: those too, as in CI.
# make enso DATA=dir: the El Nino experiment on real sea surface temperature. make peers: second opinions on relevance.

PYTHON ?= python3
VENV   ?= .venv
STAMP  := $(VENV)/.installed
GEOXAI := $(VENV)/bin/geoxai
DATA   ?=

.PHONY: demo test test-all enso peers clean

demo: $(STAMP)
	$(GEOXAI) run configs/enso_demo.yaml
	@echo "open runs/enso-demo/report.html"

test: TESTS = -m "not slow"
test test-all: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q $(TESTS)

ifeq ($(DATA),)
enso:
	@sed -n 's/^# wanted: //p' configs/enso.yaml
	@exit 2
else
enso: $(STAMP)
	$(GEOXAI) run configs/enso.yaml --set vars.data=$(DATA)
	@echo "open runs/enso/report.html"
endif

# zennit's own requirements would pull in a CUDA build of torch, so it is installed without them; tests/peers has a
# stand-in for torchvision.
peers: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[peers]"
	$(VENV)/bin/python -m pip install --quiet --no-deps zennit==0.5.1
	$(VENV)/bin/python -m pip install --quiet click Pillow
	$(VENV)/bin/python -m pytest -q tests/peers

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) runs
