"""Whether the shipped models do on a GPU what they do on a CPU, and whether nothing waits there inside a step."""

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from imagecot import registry
from imagecot.benchmark.gpu.notes import Found, Notes
from imagecot.contracts.generator import Adjustable, Generator
from imagecot.contracts.paths import finish
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.verifier import Verifier
from imagecot.generators import load_generator
from imagecot.precision import in_full
from imagecot.strategies.search import search
from imagecot.verifiers import load_verifier

PROMPT = "a photo of a red apple and a green cup"
GENERATORS, VERIFIERS = ("tiny", "tiny-janus"), ("tiny-parm", "tiny-orm", "tiny-janus-parm")
MOST_APART = 1e-3  # of P(yes) in float32
_COMMAND = 60.0  # seconds
# What each search judges by, and the options without which it asks for more than a few paths.
_JUDGES = {"parm++": "tiny-parm++", "best-of-n": "tiny-orm"}
_COMMANDS = {
    "generate": ["generate", PROMPT, "-n", "4", "--out", "{out}/generate"],
    "curate prompts": ["curate", "prompts", "--world", "drawn", "--per-task", "1", "--out", "{out}/prompts.jsonl"],
    "curate parm": ["curate", "parm", "--prompts", "{out}/prompts.jsonl", "--out", "{out}/data"],
    "curate pairs": ["curate", "pairs", "--data", "{out}/data", "--out", "{out}/pairs"],
    "evaluate, two workers": [
        *("evaluate", "geneval", "--generator", "tiny", "--per-task", "1", "--samples", "1", "--workers", "2"),
        *("--out", "{out}/evaluation"),
    ],
    "train dpo": [
        *("train", "recipes/tiny/dpo.yaml", "data={out}/pairs", "output={out}/dpo", "training.steps=3"),
        *("training.batch_size=4", "training.held_out=0"),
    ],
    "train parm": [
        *("train", "recipes/tiny/parm.yaml", "data=[{{folder: {out}/data}}]", "output={out}/parm", "epochs=0.2"),
        "batch_size=8",
    ],
    "train a tokenizer from scratch": [
        *("train", "recipes/tiny/tokenizer.yaml", "output={out}/tokenizer", "data={out}/pool", "examples=64"),
        *("optimization.steps=3", "optimization.batch_size=8"),
    ],
}


def run(notes: Notes) -> None:
    """All checks, the quickest and the most telling first."""
    for name in GENERATORS:
        notes.add(f"codes of {name} in float32", partial(_codes, name, notes, "float32"))
        notes.add(f"no waiting inside a step of {name}", partial(_stops, name, notes))
    for name in VERIFIERS:
        notes.add(f"answers of {name} in float32", partial(_answers, name, notes, "float32"))
        notes.add(f"copies of a question to {name}", partial(_waits, name, notes))
    for name in GENERATORS:
        notes.add(f"memory of a step of {name}", partial(_memory, name, notes))
        notes.add(f"codes of {name} in bfloat16", partial(_codes, name, notes, "bfloat16"))
    for name in VERIFIERS:
        notes.add(f"answers of {name} in bfloat16", partial(_answers, name, notes, "bfloat16"))
    generator = load_generator("tiny", device=notes.device)
    for name in registry.names("search"):
        notes.add(f"search {name}", partial(_search, name, generator, notes), needs=5)
    with tempfile.TemporaryDirectory() as folder:
        for name, words in _COMMANDS.items():
            command = [sys.executable, "-m", "imagecot", *(word.format(out=folder) for word in words)]
            notes.add(name, partial(_commanded, command), needs=5)


def _drawn(generator: Generator, n: int) -> Tensor:
    return finish(generator, generator.start([PROMPT], path_seeds(0, n))).codes.cpu()


def _codes(name: str, notes: Notes, precision: str) -> Found:
    """How many codes differ from those of a CPU in float32."""
    n = 2 if notes.small else 16
    with in_full():
        ours = _drawn(load_generator(name, device=notes.device, dtype=precision), n)
        theirs = _drawn(load_generator(name, device="cpu", dtype="float32"), n)
    different = int((ours != theirs).sum())
    return {"paths": n, "codes": ours.numel(), "different": different, "right": precision != "float32" or not different}


def _answers(name: str, notes: Notes, precision: str) -> Found:
    """How far P(yes) is from that of a CPU in float32."""
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with in_full():
        ours = _asked(load_verifier(name, device=notes.device, dtype=precision), images.to(notes.device))
        theirs = _asked(load_verifier(name, device="cpu", dtype="float32"), images)
    apart = float((ours - theirs).abs().max())
    return {"answers": len(ours), "apart": apart, "right": precision != "float32" or apart <= MOST_APART}


def _asked(verifier: Verifier, images: Tensor) -> Tensor:
    clear, conversation = verifier.begin(images, [PROMPT], CLARITY)
    potential = verifier.ask(images, [PROMPT], POTENTIAL, conversation)
    return torch.cat([clear, potential, verifier.ask(images, [PROMPT], ORM)]).double().cpu()


def _stops(name: str, notes: Notes) -> Found:
    """The steps of paths of which torch refuses whatever waits for the device."""
    generator = load_generator(name, device=notes.device)
    paths = generator.start([PROMPT, "a photo of two dogs"] * 2, path_seeds(0, 4))
    paths = generator.advance(paths)  # the first call of a kernel may wait
    steps = 0
    while not paths.finished:
        with _mode("error", notes):
            paths = generator.advance(paths)
            generator.preview(paths)
        steps += 1
    return {"steps": steps, "refused": not notes.small}


def _waits(name: str, notes: Notes) -> Found:
    """How often a question and its follow-up wait for the device; each answer is one copy to the host."""
    verifier = load_verifier(name, device=notes.device)
    images = torch.rand(4, 3, 64, 64, device=notes.device)
    _asked(verifier, images)

    def counted(work: Callable[[], object]) -> int:
        with warnings.catch_warnings(record=True) as told, _mode("warn", notes):
            warnings.simplefilter("always")
            work()
        return sum("synchroniz" in str(one.message) for one in told)

    _, conversation = verifier.begin(images, [PROMPT], CLARITY)
    first = counted(lambda: verifier.ask(images, [PROMPT], ORM))
    second = counted(lambda: verifier.ask(images, [PROMPT], POTENTIAL, conversation))
    return {"question": first, "follow_up": second, "right": max(first, second) <= 1}


@contextmanager
def _mode(how: str, notes: Notes) -> Iterator[None]:
    """Have torch say where the host waits for the GPU."""
    if notes.small:
        yield
        return
    torch.cuda.set_sync_debug_mode(how)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _memory(name: str, notes: Notes) -> Found:
    """The memory of a step beside what the budget of its batch was counted with."""
    loaded = load_generator(name, device=notes.device)
    assert isinstance(loaded, Adjustable)  # as all shipped ones are
    generator = loaded.adjusted(memory_budget=2**30)
    n = min(generator.paths_per_pass, 4 if notes.small else 64)
    paths = generator.advance(generator.start([PROMPT], path_seeds(0, n)))
    if notes.small:
        generator.advance(paths)
        return {"paths": n, "counted_bytes": 2**30 * n // generator.paths_per_pass}
    before = torch.cuda.memory_allocated(notes.device)
    torch.cuda.reset_peak_memory_stats(notes.device)
    generator.advance(paths)
    peak, counted = torch.cuda.max_memory_allocated(notes.device) - before, 2**30 * n // generator.paths_per_pass
    return {"paths": n, "counted_bytes": counted, "peak_bytes": peak, "right": peak <= 2 * counted}


def _search(name: str, generator: Generator, notes: Notes) -> Found:
    verifier = load_verifier(_JUDGES.get(name, "tiny-parm"), device=notes.device)
    trace = search(PROMPT, generator=generator, verifier=verifier, strategy=name, n=2 if notes.small else 8)
    return {"kept": trace.kept, "score": trace.choice.score, "search_seconds": trace.cost.seconds}


def _commanded(command: Sequence[str]) -> Found:
    """What a command ends with; what it says last where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND, env={**os.environ}, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return {"exit_code": done.returncode, "said": said[-1][:300] if said else "", "right": done.returncode == 0}
