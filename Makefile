# make demo   the node on a stream of frames: installs what it needs, runs, says what it saw
# make test   lint, types and every test
# make venv   the whole set-up alone, training included
# make lint   lint and types alone
# make bench  every engine, the node, calibration and allocator: tables and a report in out/bench
# make study  trains and measures the grid of docs/study.md; its tables: out/study/study.md
# make train-default  all stages of the default checkpoint, from ImageNet's weights on
# make comparison      measures every method with a checkpoint, then prints the pages' numbers
# make bench-metrics   streaming metrics against scikit-learn: CPU time and memory
# make soak   twenty minutes of three cameras at six times what the node can serve; signals at each moment
# make fuzz   10,000 odd messages and parameter sets of each kind
# make clean  caches and build folders; .venv and out/ stay
#
# PYTHON=python3.12 chooses the interpreter of a new .venv; ARGS="..." is passed on.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := config/requirements
DATA := ../shared/data
TEACHER := ../shared/weights/espnetv2_s_2.0_city_1024x512.pth
TRAIN_STAGE = $(BIN)/python -m anomaly_seg_ros train $< $(CHANGES) --out $(@:.done=) \
  $(if $(wildcard $(@:.done=)/last.ckpt),--resume) && touch $@
BENCH := out/bench
COMMA := ,
BENCH_ENGINES := openvino,openvino:fp32,onnx,torch$(if $(shell command -v nvidia-smi),$(COMMA)tensorrt)
BENCH_PARTS := $(addprefix $(BENCH)/,engines node calibration)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input

.PHONY: demo test venv lint browser bench bench-metrics study comparison train-default clean
.DELETE_ON_ERROR:

demo: $(VENV)/.node
	$(BIN)/python -m anomaly_seg_ros demo $(ARGS)

# Two processes share the files of tests between them: one alone leaves half of two cores idle.
test: lint browser
	$(BIN)/python -m pytest -m "" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# About seven minutes on two idle cores. ARGS goes to the comparison of the engines. The page leaves
# the allocator out: beside its training step of seconds no other bar could be seen.
bench: $(VENV)/.test
	$(BIN)/python -m anomaly_seg_ros benchmark --engine $(BENCH_ENGINES) \
	  --size 360x480,512x1024 --rounds 10 --out $(BENCH)/engines $(ARGS)
	$(BIN)/python -m training.bench.node --out $(BENCH)/node
	$(BIN)/python -m training.bench.calibration --out $(BENCH)/calibration
	$(BIN)/python -m training.bench.allocator --blocks 3 --out $(BENCH)/allocator
	$(BIN)/python -m anomaly_seg_ros report $(BENCH_PARTS) --out $(BENCH)/report.html
	@$(BIN)/python -m training.bench.table $(BENCH_PARTS) $(BENCH)/allocator > $(BENCH)/tables.md
	@echo "$(BENCH)/report.html  $(BENCH)/tables.md"

# Hours on a CPU; goes on where it was stopped.
study: $(VENV)/.test
	$(BIN)/python -m training.study $(ARGS)

# About five hours on two idle cores; started again, it goes on where it was stopped.
train-default: $(VENV)/.test out/default.done

# Half of what the last stage began from, a quarter of where either seed ends; likewise before it.
out/default.done: out/lite_again.done out/lite_again_1.done
	$(BIN)/python -m training.preparation.average out/lite_taught_mean out/lite_taught_mean \
	  out/lite_again/checkpoint out/lite_again_1/checkpoint --out out/lite_again_mean
	$(BIN)/python -m anomaly_seg_ros fit_score --checkpoint out/lite_again_mean \
	  --score dense_hybrid_odds,dense_hybrid,max_logit,msp,entropy,energy,dfkde --sure \
	  --own dense_hybrid_odds --dataset camvid --root $(DATA)/camvid --out out/default
	$(BIN)/python -m anomaly_seg_ros export --checkpoint out/default \
	  --out out/default/engines/openvino-dense_hybrid_odds
	touch $@

out/lite_again_1.done: private CHANGES = seed=1
out/lite_again.done out/lite_again_1.done: config/train/default.yaml out/lite_taught_mean.done
	$(TRAIN_STAGE)

out/lite_taught_mean.done: out/lite_taught.done out/lite_taught_1.done
	$(BIN)/python -m training.preparation.average out/lite_mean out/lite_mean \
	  out/lite_taught/checkpoint out/lite_taught_1/checkpoint --out out/lite_taught_mean
	touch $@

out/lite_taught_1.done: private CHANGES = seed=1
out/lite_taught.done out/lite_taught_1.done: config/train/efficientnet_lite_taught.yaml \
  out/lite_mean.done
	$(TRAIN_STAGE)

# Two parts of either seed's fourth stage, one of the stage that both began from.
out/lite_mean.done: out/lite_last.done out/lite_last_1.done
	$(BIN)/python -m training.preparation.average out/lite_objects/checkpoint \
	  out/lite_last_1/checkpoint out/lite_last_1/checkpoint \
	  out/lite_last/checkpoint out/lite_last/checkpoint --out out/lite_mean
	touch $@

out/lite_photos.done: config/train/efficientnet_lite_photos.yaml
	$(TRAIN_STAGE)

out/lite_objects.done: config/train/efficientnet_lite_camvid.yaml out/lite_photos.done
	$(TRAIN_STAGE)

out/lite_cameras.done out/lite_cameras_1.done: config/train/efficientnet_lite_cameras.yaml \
  out/lite_objects.done out/outlines.json out/dashcam.done
	$(TRAIN_STAGE)

out/lite_last.done: config/train/efficientnet_lite_overlap.yaml out/lite_cameras.done
	$(TRAIN_STAGE)

# The third and fourth stage again with another seed.
out/lite_cameras_1.done: private CHANGES = seed=1
out/lite_last_1.done: private CHANGES = seed=1 init=out/lite_cameras_1/checkpoint
out/lite_last_1.done: config/train/efficientnet_lite_overlap.yaml out/lite_cameras_1.done
	$(TRAIN_STAGE)

out/outlines.json:
	$(BIN)/python -m training.preparation.outlines $(DATA)/negatives --out $@

out/dashcam.done:
	$(BIN)/python -m anomaly_seg_ros import_weights $(TEACHER) --model espnetv2 --out out/espnetv2
	$(BIN)/python -m training.preparation.pseudo_labels $(DATA)/dashcam_normal/highway \
	  $(DATA)/dashcam_normal/stills --checkpoint out/espnetv2 --confidence 0.97 --out out/dashcam
	touch $@

# What was measured is not measured again; ARGS="--only default" measures one method.
comparison: $(VENV)/.test
	$(BIN)/python -m training.study.compare $(ARGS)
	$(BIN)/python -m docs.numbers

bench-metrics: $(VENV)/.test
	$(BIN)/python -m training.bench.metrics $(ARGS)

# Their short forms are a part of `make test`.
.PHONY: soak fuzz
soak: $(VENV)/.test
	ANOMALY_SEG_LONG=1 $(BIN)/python -m pytest -m "" -s test/test_soak.py test/test_signal_sweep.py $(ARGS)

fuzz: $(VENV)/.test
	ANOMALY_SEG_LONG=1 $(BIN)/python -m pytest -m "" test/test_fuzz.py $(ARGS)

# The report's page is tested in a real browser. On Ubuntu apt gives a snap stub: install one by hand.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && grep -qs '^ID=debian' /etc/os-release \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	  || { echo "make: the tests of the report need chromium; install it" >&2; exit 1; }

venv: $(VENV)/.test

# bin/pip is the last thing that venv makes: without it the folder is half made.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "make: '$(PYTHON)' is `$(PYTHON) -V 2>&1`; Python 3.10 to 3.13 is needed:" \
	         "make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "make: new environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "make: '$(PYTHON) -m venv' failed; on Ubuntu: sudo apt install python3-venv" >&2; \
	    exit 1; }

$(VENV)/.node: $(REQUIREMENTS)/node.txt | $(BIN)/pip
	@echo "make: installing $< (a few minutes the first time)"
	@$(PIP_INSTALL) -r $<
	@touch $@

# torch alone and first: whatever needs a torch then finds this one and pulls no other.
$(VENV)/.test: $(addprefix $(REQUIREMENTS)/,node.txt train.txt test.txt) | $(BIN)/pip
	@echo "make: installing $(REQUIREMENTS)/test.txt (several minutes the first time)"
	@$(PIP_INSTALL) torch==2.13.0
	@$(PIP_INSTALL) -r $(REQUIREMENTS)/test.txt
	@touch $(VENV)/.node $@

clean:
	rm -rf build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find anomaly_seg_ros training test launch docs -name __pycache__ -type d -exec rm -rf {} +
