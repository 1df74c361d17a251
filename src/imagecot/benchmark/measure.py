"""Seconds, rates and memory of one generator and its judge.

A step is timed in the middle of an image, of paths that differ. What is compared is repeated in turns, so that all meet
the same machine, a matrix product among it, and the median counts.
"""

import platform
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from imagecot import interruption
from imagecot.benchmark.outside import Outside
from imagecot.benchmark.result import Growth, Machine, Part, Ratio, Result, Step, Training
from imagecot.benchmark.timing import FORMATS, Yardstick, in_turns, seconds, share
from imagecot.benchmark.training import training
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths, finish
from imagecot.contracts.prompts import Reader
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.scorer import Scorer
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.generators import bench
from imagecot.generators.bench import Bench, Benched, Piece
from imagecot.strategies.search import search

PROMPT = "a photo of a red apple"
MOST_WORDS = 1024  # of a prompt that is timed
_PARTS = 7  # of a benchmark, whose progress is told


@dataclass(frozen=True)
class Subject:
    """What is measured, beside what, and how often; `verifier` is None where nobody judges.

    known   the generator's steps, taken apart; None where it says nothing of them
    parts   the same, or as they are seen from outside
    kind    the number format that rates are compared in: int8 leaves everything between the products in float32
    """

    generator: Generator
    verifier: Verifier | None
    repeats: int
    known: Bench | None
    parts: Bench | Outside
    yardstick: Yardstick
    kind: str

    @classmethod
    def of(cls, generator: Generator, verifier: Verifier | None, repeats: int) -> "Subject":
        """A generator and its judge."""
        known = generator.bench() if isinstance(generator, Benched) else None
        weight = next(iter(known.weights.parameters()), torch.zeros(())) if known else torch.zeros(())
        named = {dtype: name for name, dtype in FORMATS.items()}
        kind = named.get(weight.dtype, "float32")
        parts = known or Outside(generator)
        return cls(generator, verifier, repeats, known, parts, Yardstick(weight.device), kind)


def measure(
    generator: Generator,
    verifier: Verifier | None,
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    n: int = 20,
    repeats: int = 3,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Result:
    """Return all measurements; what is not asked for (a judge) or not known (operations of a step) is left out.

    The models are not named in it. UsageError for a generator that does not read the prompt of the benchmark.
    """
    subject = Subject.of(generator, verifier, repeats)
    parts, largest = count(), max(batches)

    def begin() -> None:
        interruption.check()
        progress(next(parts), _PARTS)

    begin()
    by_batch = [step(subject, subject.parts.halfway(batch, PROMPT)) for batch in batches]
    begin()
    by_tokens = [step(subject, paths) for paths in subject.parts.longer(PROMPT)]
    begin()
    by_prompt = [step(subject, subject.parts.halfway(1, prompt)) for prompt in prompts(generator)]
    begin()
    growth = [_paths(subject, paths) for paths in sorted({max(1, n // 4), n, 2 * n, 4 * n})]
    begin()
    split = breakdown(subject, min(n, largest))
    begin()
    ratios = against_plain(subject, n)
    begin()
    trained = _training(subject, min(16, largest))
    progress(_PARTS, _PARTS)
    return Result(
        generator="",
        verifier=None,
        machine=_machine(subject),
        batches=by_batch,
        image_tokens=by_tokens,
        prompt_tokens=by_prompt,
        growth=growth,
        breakdown_paths=min(n, largest),
        breakdown=split,
        against_plain=ratios,
        training=trained,
        matrix_gflop_per_second=subject.yardstick.rates(),
        peak_memory_bytes=_peak_memory(),
    )


def step(subject: Subject, paths: Paths) -> Step:
    """The next step of paths, in turns with a matrix product."""
    generator = subject.generator
    times, rates = subject.yardstick.beside({"step": lambda: generator.advance(paths)}, subject.repeats, subject.kind)
    took, flop = statistics.median(times["step"]), subject.parts.flop(paths)
    image, prompt = subject.parts.tokens(paths)
    return Step(
        paths=len(paths),
        image_tokens=image,
        prompt_tokens=prompt,
        seconds_per_step=took,
        seconds_per_path_step=took / len(paths),
        gflop_per_second=None if flop is None else flop / took / 1e9,
        peak_memory_bytes=_peak_memory(),
        share_of_matrix_rate=None if flop is None else share(flop, times["step"], rates),
    )


@torch.no_grad()
def breakdown(subject: Subject, batch: int) -> dict[str, Part]:
    """Return the seconds of each part of a step of `batch` paths, of its previews and of judging them."""
    generator, verifier = subject.generator, subject.verifier
    paths = subject.parts.halfway(batch, PROMPT)
    pieces = dict(subject.parts.pieces(paths, PROMPT))
    shown = generator.advance(paths)  # of some generators nothing can be shown before a step
    pieces["preview"] = Piece(lambda: generator.preview(shown))
    if verifier is not None:
        images = generator.preview(shown)
        pieces["judge"] = Piece(lambda: verifier.ask(images, [PROMPT], ORM))
    works = {name: piece.work for name, piece in pieces.items()}
    times, rates = subject.yardstick.beside(works, subject.repeats, subject.kind)
    found = {}
    for name, piece in pieces.items():
        took = statistics.median(times[name])
        if piece.flop is None:
            found[name] = Part(took)
        else:
            found[name] = Part(took, piece.flop / took / 1e9, share(piece.flop, times[name], rates))
    return found


def against_plain(subject: Subject, n: int) -> dict[str, Ratio]:
    """Return the seconds of one path, and of n with or without a judge, beside those of the plain decoder.

    Nothing where there is none.
    """
    generator, verifier, known = subject.generator, subject.verifier, subject.known
    if known is None:
        return {}
    seeds = path_seeds(0, n)

    def draw(seeds: Tensor) -> Paths:
        return finish(generator, generator.start([PROMPT], seeds))

    def plainly(seed: int) -> Tensor:
        return known.plain(PROMPT, seed)

    found = {"path": _ratio(lambda: plainly(int(seeds[0])), lambda: draw(seeds[:1]), subject.repeats)}
    fewer = max(1, subject.repeats // 2)
    if verifier is None:
        ratio = _ratio(lambda: [plainly(seed) for seed in seeds.tolist()], lambda: draw(seeds), fewer)
        return found | {"paths": replace(ratio, n=n)}

    def best_of_n() -> float:
        return float(verifier.ask(generator.decode(draw(seeds).codes), [PROMPT], ORM).max())

    def plain_best_of_n() -> float:
        answers = []
        for seed in seeds.tolist():
            image = generator.decode(plainly(seed)[None])
            answers.append(float(verifier.ask(image, [PROMPT], ORM)))
        return max(answers)

    return found | {"best_of_n": replace(_ratio(plain_best_of_n, best_of_n, fewer), n=n)}


def _paths(subject: Subject, n: int) -> Growth:
    """Seconds, and the memory so far, of a whole search over n paths: best-of-n, or drawing alone without a judge."""
    generator, verifier = subject.generator, subject.verifier

    def work() -> object:
        if verifier is not None:
            return search(PROMPT, generator=generator, verifier=verifier, strategy="best-of-n", n=n)
        return generator.decode(finish(generator, generator.start([PROMPT], path_seeds(0, n))).codes)

    took = seconds(work)
    return Growth(n, took, took / n, _peak_memory())


def _ratio(plain: Callable[[], object], ours: Callable[[], object], repeats: int) -> Ratio:
    times = in_turns({"plain": plain, "imagecot": ours}, repeats)
    ratios = [a / b for a, b in zip(times["plain"], times["imagecot"], strict=True)]
    plainly, took = (statistics.median(times[name]) for name in ("plain", "imagecot"))
    return Ratio(plainly, took, statistics.median(ratios), ratios)


def _training(subject: Subject, batch: int) -> Training | None:
    """The gradient of images, of a model that is held in float32, as trained models are."""
    generator, known = subject.generator, subject.known
    if known is None or not isinstance(generator, Scorer) or precision(subject) != "float32":
        return None
    codes = torch.randint(
        generator.canvas.codes, (batch, generator.canvas.positions), generator=torch.Generator().manual_seed(0)
    )
    device = next(known.weights.parameters()).device
    return training(generator, known, PROMPT, codes.to(device), subject.repeats, subject.yardstick)


def prompts(generator: Generator) -> list[str]:
    """Prompts of one word, of as many as a generator reads, and of half of them; one where it does not say."""
    if not isinstance(generator, Reader):
        return [PROMPT]
    least, most = 0, MOST_WORDS  # what is readable, and what is perhaps not
    while least < most:
        middle = (least + most + 1) // 2
        if _readable(generator, middle):
            least = middle
        else:
            most = middle - 1
    return [_words(length) for length in sorted({1, max(1, least // 2), max(1, least)})]


def _words(count: int) -> str:
    return " ".join(["red"] * count)


def _readable(generator: Reader, count: int) -> bool:
    try:
        generator.check_prompt(_words(count))
    except UsageError:
        return False
    return True


def precision(subject: Subject) -> str:
    """The number format that the generator says it is in, or that of its weights."""
    return str(subject.generator.settings.get("precision", subject.kind))


def _machine(subject: Subject) -> Machine:
    known = subject.known
    weight = next(iter(known.weights.parameters()), None) if known else None
    return Machine(
        processor=platform.processor() or platform.machine(),
        threads=torch.get_num_threads(),
        device=str(subject.generator.start([PROMPT], path_seeds(0, 1)).codes.device),
        dtype=subject.kind if weight is None else str(weight.dtype).removeprefix("torch."),
        precision=precision(subject),
        torch=torch.__version__,
        parameters=bench.count(known.weights) if known else None,
        steps=subject.generator.steps,
    )


def _peak_memory() -> int:
    """The most memory that this process has had so far: it never falls, so growth shows from small to large."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
