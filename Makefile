# make demo    install, draw one verified picture, say where the evidence is
# make pictures  the pictures of README, drawn by the demo's command and by others like it
# make check   lint, format and types
# make test    the tests, under 8 minutes on two cores; `make test-slow` runs the long ones
# make test-browser   viewer and app in a real Chromium, which must be there, as must what `make browser` installs to drive it
# make gpu-check   what a GPU is to be looked at for, into gpu-check.json; without one its rehearsal on the CPU
# make docs    the documentation as a site, in site/; nothing is fetched
# make test-latest   the tests with the newest versions that pyproject.toml allows, in an environment of their own
# make lock    renew the versions in locks/
# make tiny    train every shipped checkpoint by its recipe (hours; resumable); adapters are trained on the shipped bases
# make study   every table and curve of the paper at the embedded size, and their report (hours; resumable)
# make study-quick   the same rows on few prompts, in minutes
#
# A machine with a GPU: make setup TORCH="torch<2.15", or VENV=<an environment that has its torch already>.
# An environment for every extra: make setup PACKAGES=locks/versions.txt

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
PACKAGES ?= locks/dev.txt
WORKERS ?= 2
BIN = $(VENV)/bin
PROMPT ?= a photo of a red apple and a green cup

.PHONY: setup lock demo pictures check docs test test-slow gpu-check browser test-browser test-latest tiny study study-quick clean

setup: $(VENV)/.ok

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Whatever torch is in the environment stays; all else has the version and the digest that the lock says. The lock holds
# every extra; of its packages those are installed that PACKAGES names at the beginning of a line.
$(VENV)/.ok: pyproject.toml locks/versions.txt $(PACKAGES) | $(BIN)/python
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install '$(TORCH)'
	awk -F'[= ;]' 'NR == FNR {wanted[$$1]; next} /^[^ ]/ {taken = $$1 in wanted} taken' $(PACKAGES) locks/versions.txt \
		> $(VENV)/versions.txt
	$(BIN)/python -m pip install --no-deps --require-hashes -r $(VENV)/versions.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $@

# One resolution for all extras: what development needs is a part of it.
COMPILE = $(BIN)/uv pip compile --quiet --no-header --no-annotate --universal --python-version 3.11 \
	--no-emit-package torch pyproject.toml

lock: setup
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --upgrade --all-extras --generate-hashes --output-file locks/versions.txt
	$(COMPILE) --extra dev --extra docs --constraint locks/versions.txt | sed 's/==.*//' | sort -u > locks/dev.txt
	$(COMPILE) --extra browser --constraint locks/versions.txt | sed 's/==.*//' | sort -u | comm -23 - locks/dev.txt \
		> locks/browser.txt

DRAWN = -n 20 --generator tiny-janus --search parm

demo: setup
	$(BIN)/imagecot generate "$(PROMPT)" $(DRAWN) --out runs/demo
	@$(PYTHON) -m webbrowser -t "file://$(CURDIR)/runs/demo/steps.png" >/dev/null 2>&1 || true
	@echo "The evidence: $(CURDIR)/runs/demo/steps.png"

PICTURED = "three blue birds" "a clock left of a bird" "four cups" "two orange kites" "a banana below a book"
IMAGES = docs/images

pictures: setup
	$(BIN)/imagecot generate "$(PROMPT)" $(DRAWN) --out runs/pictures/demo
	$(BIN)/imagecot view runs/pictures/demo --animate $(IMAGES)/paths.webp
	$(BIN)/imagecot view runs/pictures/demo --animate $(IMAGES)/paths-dark.webp --dark
	$(BIN)/imagecot view runs/pictures/demo --animate $(IMAGES)/paths.png
	for what in $(PICTURED); do \
		name=$$(echo $$what | tr ' ' -); \
		$(BIN)/imagecot generate "a photo of $$what" --generator tiny-janus --search single --out runs/pictures/single/$$name && \
		$(BIN)/imagecot generate "a photo of $$what" $(DRAWN) --out runs/pictures/parm/$$name && \
		cp runs/pictures/single/$$name/image.png $(IMAGES)/$$name-single.png && \
		cp runs/pictures/parm/$$name/image.png $(IMAGES)/$$name.png || exit 1; \
	done

check: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

docs: setup
	$(BIN)/mkdocs build --quiet

# Several processes of one thread each: two that wait for each other's threads take seven times as long.
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
test: setup
	$(PYTEST) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: setup
	$(PYTEST) $(BIN)/python -m pytest -m slow

# What drives a browser is locked like everything else; the browser itself is the machine's own.
browser: setup
	awk -F'[= ;]' 'NR == FNR {wanted[$$1]; next} /^[^ ]/ {taken = $$1 in wanted} taken' locks/browser.txt locks/versions.txt \
		> $(VENV)/browser.txt
	$(BIN)/python -m pip install --no-deps --require-hashes -r $(VENV)/browser.txt

CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
test-browser: setup
	@$(BIN)/python -c 'import playwright, axe_playwright_python, gradio' 2>/dev/null || \
		{ echo "error: nothing drives a browser here; run make browser first." >&2; exit 1; }
	@test -x "$(CHROMIUM)" || { echo "error: there is no Chromium; install it (Debian: apt-get install chromium) or name it" \
		"with CHROMIUM=/path/to/chromium." >&2; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(PYTEST) $(BIN)/python -m pytest -m browser

# Whatever environment there is is taken as it is: nothing can be fetched where a GPU is lent.
gpu-check:
	$(BIN)/python -m imagecot.benchmark.gpu --out gpu-check.json

LATEST = .venv-latest
LATEST_TORCH ?= torch

test-latest:
	$(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --upgrade --upgrade-strategy eager '$(LATEST_TORCH)' -e '.[dev]'
	$(PYTEST) $(LATEST)/bin/python -m pytest -n $(WORKERS) --dist loadfile

# Rejected images with reasons, and the accepted ones beside them, of the paths of tiny and of tiny-dpo.
REJECTED = $(foreach d,reflection reflection-b-dpo reflection-dpo,--data runs/tiny/data-$(d))
ACCEPTED = $(foreach d,data-parm data-repairs data-parm-b-dpo data-repairs-b-dpo dpo-iter/round-1/data data-repairs-dpo,--images runs/tiny/$(d))

tiny: setup
	$(BIN)/imagecot train recipes/tiny/tokenizer.yaml
	$(BIN)/imagecot train recipes/tiny/detector.yaml
	$(BIN)/imagecot train recipes/tiny/detector-2.yaml
	$(BIN)/imagecot train recipes/tiny/detector-annotated.yaml
	$(BIN)/imagecot train recipes/tiny/generator.yaml
	$(BIN)/imagecot train recipes/tiny/verifier.yaml
	$(BIN)/imagecot curate prompts --world drawn --per-task 60 --out runs/tiny/prompts.jsonl
	$(BIN)/imagecot curate prompts --world drawn --per-task 16 --seed 1 --out runs/tiny/prompts-prm.jsonl
	$(BIN)/imagecot curate parm --prompts runs/tiny/prompts.jsonl --precision bfloat16 --out runs/tiny/data-parm
	$(BIN)/imagecot curate prm --prompts runs/tiny/prompts-prm.jsonl --precision bfloat16 --out runs/tiny/data-prm
	$(BIN)/imagecot train recipes/tiny/prm.yaml
	$(BIN)/imagecot curate pairs --data runs/tiny/data-parm --per-prompt 4 --out runs/tiny/pairs
	$(BIN)/imagecot train recipes/tiny/dpo.yaml
	$(BIN)/imagecot train recipes/tiny/dpo-iter.yaml
	$(BIN)/imagecot curate prompts --world drawn --per-task 50 --seed 1 --out runs/tiny/prompts-b.jsonl
	$(BIN)/imagecot curate parm --prompts runs/tiny/prompts-b.jsonl --generator runs/tiny/dpo --precision bfloat16 --seed 5 \
		--out runs/tiny/data-parm-b-dpo
	$(BIN)/imagecot train recipes/tiny/orm.yaml
	$(BIN)/imagecot train recipes/tiny/parm.yaml
	$(BIN)/imagecot train recipes/tiny/dpo-iter-orm.yaml
	$(BIN)/imagecot train recipes/tiny/dpo-iter-parm.yaml
	$(BIN)/imagecot curate repairs --scenes 4000 --seed 7 --out runs/tiny/data-near-misses
	$(BIN)/imagecot curate repairs --scenes 24000 --seed 11 --out runs/tiny/data-near-misses-2
	for more in "" -2; do \
		$(BIN)/imagecot curate reflection --data runs/tiny/data-near-misses$$more --out runs/tiny/data-reflection-near$$more || exit 1; \
	done
	$(BIN)/imagecot curate reflection --data runs/tiny/dpo-iter/round-1/data --out runs/tiny/data-reflection-dpo
	$(BIN)/imagecot curate repairs --data runs/tiny/dpo-iter/round-1/data --out runs/tiny/data-repairs-dpo
	for data in parm parm-b-dpo; do \
		$(BIN)/imagecot curate reflection --data runs/tiny/data-$$data --out runs/tiny/data-reflection$${data#parm} || exit 1; \
		$(BIN)/imagecot curate repairs --data runs/tiny/data-$$data --out runs/tiny/data-repairs$${data#parm} || exit 1; \
	done
	$(BIN)/imagecot curate corrections $(REJECTED) $(ACCEPTED) $(foreach d,near near-2,--data runs/tiny/data-reflection-$(d)) \
		$(foreach d,near-misses near-misses-2,--images runs/tiny/data-$(d)) --out runs/tiny/data-corrections
	$(BIN)/imagecot curate corrections $(REJECTED) $(ACCEPTED) --out runs/tiny/data-corrections-drawn
	$(BIN)/imagecot train recipes/tiny/parm-plus-plus.yaml
	$(BIN)/imagecot train recipes/tiny/self-correction.yaml
	$(BIN)/imagecot curate redraws --data runs/tiny/data-corrections-drawn --generator runs/tiny/generator-self-correct \
		--precision bfloat16 --groups 416 --paths 12 --out runs/tiny/data-redraws
	$(BIN)/imagecot curate pairs --data runs/tiny/data-redraws --data runs/tiny/data-parm --per-prompt 2 --out runs/tiny/pairs-redraws
	$(BIN)/imagecot train recipes/tiny/self-correction-dpo.yaml
	$(BIN)/imagecot train recipes/tiny-janus/tokenizer.yaml
	$(BIN)/imagecot train recipes/tiny-janus/generator.yaml
	$(BIN)/imagecot train recipes/tiny-janus/understanding.yaml
	$(BIN)/imagecot curate prompts --world drawn --per-task 60 --out runs/tiny-janus/prompts.jsonl
	$(BIN)/imagecot curate parm --prompts runs/tiny-janus/prompts.jsonl --generator tiny-janus --precision bfloat16 \
		--out runs/tiny-janus/data-parm
	$(BIN)/imagecot curate prompts --world drawn --per-task 60 --seed 1 --out runs/tiny-janus/prompts-b.jsonl
	$(BIN)/imagecot curate orm --prompts runs/tiny-janus/prompts-b.jsonl --generator tiny-janus --precision bfloat16 --seed 5 \
		--out runs/tiny-janus/data-orm-b
	$(BIN)/imagecot curate pairs --data runs/tiny-janus/data-parm --data runs/tiny-janus/data-orm-b --per-prompt 10 \
		--out runs/tiny-janus/pairs
	$(BIN)/imagecot train recipes/tiny-janus/dpo.yaml
	$(BIN)/imagecot train recipes/tiny-janus/orm.yaml
	$(BIN)/imagecot train recipes/tiny-janus/parm.yaml

study: setup
	$(BIN)/imagecot study recipes/study/tiny.yaml --workers $(WORKERS)
	$(BIN)/imagecot report runs/study/tiny

study-quick: setup
	$(BIN)/imagecot study recipes/study/quick.yaml --workers $(WORKERS)
	$(BIN)/imagecot report runs/study/quick

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
