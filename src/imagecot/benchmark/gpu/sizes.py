"""How fast models of the released sizes are, made of random weights on the device."""

import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial

import torch
from torch import nn

from imagecot.benchmark.gpu.models import JUDGE, MODELS, judge
from imagecot.benchmark.gpu.notes import Found, Notes
from imagecot.benchmark.measure import PROMPT, Subject, breakdown, step
from imagecot.benchmark.timing import in_turns, seconds
from imagecot.contracts.generator import Generator
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Verifier
from imagecot.strategies.search import search

_PATHS = (1, 4, 16, 64)
_N = 20  # of a whole search
_REPEATS = 3


def run(notes: Notes) -> None:
    """One generator after another, the cheapest first; then what a compiler and graphs bring."""
    notes.add("the card", lambda: _card(notes))
    for name, make in MODELS.items():
        made: list[Generator] = []
        notes.add(f"{name}: made", partial(_made, made, make, notes), needs=10)
        if not made:
            continue
        generator = made.pop()
        subject = Subject.of(generator, None, 1 if notes.small else _REPEATS)
        for n in _PATHS[: 2 if notes.small else None]:
            notes.add(f"{name}: a step of {n}", partial(_step, subject, n, notes), needs=3)
        notes.add(f"{name}: parts of a step", partial(_parts, subject, notes), needs=10)
        notes.add(f"{name}: a graph", partial(_graph, subject, notes), needs=5)
        del generator, subject
        _give_up(notes)
    _whole_searches(notes)
    _compiled(notes)


def _whole_searches(notes: Notes) -> None:
    """Best-of-n and PARM with a judge of its released size beside the generators."""
    judges: list[Verifier] = []

    def judging() -> Found:
        judges.append(judge(notes.device, notes.small))
        return {"weights": _count(judges[0])}

    notes.add(f"{JUDGE}: made", judging, needs=15)
    for name, make in MODELS.items() if judges else ():
        made: list[Generator] = []
        notes.add(f"{name} with {JUDGE}: made", partial(_made, made, make, notes), needs=15)
        for how in ("best-of-n", "parm") if made else ():
            notes.add(
                f"{name} with {JUDGE}: {how}",
                partial(_search, how, made[0], judges[0], notes),
                needs=10,
            )
        made.clear()
        _give_up(notes)


def _compiled(notes: Notes) -> None:
    """What torch.compile brings to the layers of the first generator."""
    made: list[Generator] = []
    name, make = next(iter(MODELS.items()))
    notes.add(f"{name}: made again", lambda: _made(made, make, notes), needs=60)
    if made and not notes.small:
        notes.add(f"{name}: layers, compiled", lambda: _compile(Subject.of(made[0], None, _REPEATS)), needs=50)


def _made(made: list[Generator], make: Callable[[torch.device, bool], Generator], notes: Notes) -> Found:
    made.append(make(notes.device, notes.small))
    return {"weights": _count(made[0]), "paths_per_pass": made[0].paths_per_pass}


def _count(model: object) -> int:
    """The numbers of all modules that an object holds."""
    modules = [part for part in vars(model).values() if isinstance(part, nn.Module)]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _card(notes: Notes) -> Found:
    """The bandwidth of the memory by a copy, and the rate of matrix products."""
    numbers = 2**22 if notes.small else 2**29
    source = torch.ones(numbers, dtype=torch.bfloat16, device=notes.device)
    target = torch.empty_like(source)
    copied = statistics.median(in_turns({"": lambda: target.copy_(source)}, 5)[""])
    side = 512 if notes.small else 8192
    a = torch.randn(side, side, device=notes.device, dtype=torch.bfloat16)
    product = statistics.median(in_turns({"": lambda: a @ a}, 5)[""])
    return {
        "gigabytes_per_second": 2 * numbers * 2 / copied / 1e9,
        "bfloat16_gflop_per_second": 2.0 * side**3 / product / 1e9,
    }


def _step(subject: Subject, n: int, notes: Notes) -> Found:
    """The next step of n paths in the middle of an image, and how much of the weights' bandwidth it reaches."""
    found: dict[str, JSON] = asdict(step(subject, subject.parts.halfway(n, PROMPT)))
    if subject.known is not None:
        size = sum(weight.numel() * weight.element_size() for weight in subject.known.weights.parameters())
        found["weights_read_gigabytes_per_second"] = size / float(str(found["seconds_per_step"])) / 1e9
    return found


def _parts(subject: Subject, notes: Notes) -> Found:
    return {name: asdict(part) for name, part in breakdown(subject, 2 if notes.small else _N).items()}


def _search(how: str, generator: Generator, verifier: Verifier, notes: Notes) -> Found:
    n = 2 if notes.small else _N
    trace = search(PROMPT, generator=generator, verifier=verifier, strategy=how, n=n)
    cost = trace.cost
    return {"n": n, "kept": trace.kept, "search_seconds": cost.seconds, "judge_seconds": cost.judge_seconds}


def _graph(subject: Subject, notes: Notes) -> Found:
    """A step as it is, and as a CUDA graph, which no step can be that waits for the device."""
    paths = subject.parts.halfway(1 if notes.small else 4, PROMPT)

    def work() -> object:
        return subject.generator.advance(paths)

    if notes.small:
        return {"plain_seconds": seconds(work)}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return _medians({"plain_seconds": work, "graph_seconds": graph.replay})


def _compile(subject: Subject) -> Found:
    """The layers of a step, compiled with static shapes."""
    paths = subject.parts.halfway(4, PROMPT)
    trunk = subject.parts.pieces(paths, PROMPT)["trunk"].work
    compiled = torch.compile(trunk, dynamic=False)
    first = seconds(compiled)
    return {"compiling_seconds": first, **_medians({"plain_seconds": trunk, "compiled_seconds": compiled})}


def _medians(works: Mapping[str, Callable[[], object]]) -> dict[str, JSON]:
    with torch.no_grad():
        return {name: statistics.median(times) for name, times in in_turns(works, _REPEATS).items()}


def _give_up(notes: Notes) -> None:
    """Give the memory of models back that nobody holds any more."""
    gc.collect()
    if not notes.small:
        torch.cuda.empty_cache()
