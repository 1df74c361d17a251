"""The loop of every training, on accelerate: steps, evaluations, curves, states, and where to stop.

A training says what it is made of: the terms of its loss (`Objective`), what moves (`Trained`), and how long and how
often (`Course`). A step is parts of fixed examples, which processes share. A part depends on its number alone, and so
does what is drawn from global randomness, so a training computes the same losses whoever takes part, and whether it was
killed and resumed or not.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from imagecot import interruption, peers
from imagecot.errors import ImagecotError, UsageError
from imagecot.training.average import Average
from imagecot.training.curves import Curves, Sums
from imagecot.training.output import Output
from imagecot.training.schedule import learning_rate
from imagecot.training.sharding import gathered
from imagecot.training.state import Kept, resume, save_state, seed_all
from imagecot.training.tracking import tracking
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Part:
    """What is seen between two moves of the weights, or a share of it.

    step    of the training, from 0
    number  counts the parts of all steps
    piece   which of so many `pieces` of the part this process sees
    """

    step: int
    number: int
    piece: int = 0
    pieces: int = 1

    def places(self, size: int) -> range:
        """Which examples of the training these are, where a part has so many."""
        own = size // self.pieces
        first = self.number * size + self.piece * own
        return range(first, first + own)


@dataclass(frozen=True)
class Shares:
    """How processes share the parts of a step: one of `columns` groups takes every such part, in pieces.

    rank  of this process
    """

    parts: int
    columns: int
    pieces: int
    rank: int

    @classmethod
    def of(cls, parts: int, sizes: Mapping[str, int], rank: int, world: int) -> "Shares":
        """The shares of a step of so many parts; UsageError where they would not be equal.

        sizes  of a part, by the keys of the recipe
        """
        columns = math.gcd(parts, world)
        pieces = world // columns
        for name, size in sizes.items():
            if size % pieces:
                raise UsageError(
                    f"{world} processes cannot share {name}={size} times {parts} evenly; start another number of "
                    f"processes, or make {name} a multiple of {pieces}."
                )
        return cls(parts, columns, pieces, rank)

    @property
    def each(self) -> int:
        """Parts that a process sees of a step."""
        return self.parts // self.columns

    def at(self, step: int) -> "Iterable[Part]":
        """What this process sees of a step."""
        column, piece = divmod(self.rank, self.pieces)
        for k in range(column, self.parts, self.columns):
            yield Part(step, step * self.parts + k, piece, self.pieces)


@dataclass(frozen=True)
class Term:
    """A term of the loss of a part.

    loss    a scalar with its graph
    values  scalars that are recorded, by name
    weight  of the loss in the sum
    batch   what a message calls that which it was computed from
    """

    loss: Tensor
    values: Mapping[str, Tensor]
    weight: float = 1.0
    batch: str = ""


class Objective(Protocol):
    """What a training minimises, and how it is scored."""

    def terms(self, part: Part) -> Iterable[Term]:
        """The terms of a part, each of which is back-propagated before the next is asked for: no two graphs meet."""
        ...

    def evaluate(self, done: int) -> Mapping[str, float]:
        """Scores by name after so many steps."""
        ...


@dataclass(frozen=True)
class Trained:
    """What moves, as accelerate has prepared it.

    module      computes the losses
    optimizers  with the peak rate of each of their groups
    average     of the weights, which is scored and left in the end, where there is one; of whole weights alone
    """

    accelerator: "Accelerator"
    module: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    average: Average | None = None


@dataclass(frozen=True)
class Course:
    """How a training goes, in steps.

    title       what is trained
    sizes       of a part, by the keys of the recipe; the first counts examples
    accumulate  parts a step, whatever the number of processes
    warmup      steps
    least       the learning rate of the end
    scores_untrained  whether it is also scored before the first step
    stage       a folder of its own inside that of the training, where that has several stages
    seed        of global randomness, which begins anew with each part
    """

    title: str
    steps: int
    sizes: Mapping[str, int]
    warmup: int
    clip: float
    record_every: int
    evaluate_every: int
    save_every: int
    accumulate: int = 1
    least: float = 0.0
    scores_untrained: bool = False
    stage: str = ""
    seed: int = 0


def fit(trained: Trained, objective: Objective, course: Course, output: Output, *, watch: Watch = SILENT) -> None:
    """Do the steps that are left, keep state and curves in `output`, and leave the module as it is used.

    UsageError where the processes cannot share a step evenly; ImagecotError where a loss is not finite, the folder
    cannot be written, the earlier state is damaged, or another process is lost.
    """
    with peers.telling_losses():
        _fit(trained, objective, course, output, watch)


def _fit(trained: Trained, objective: Objective, course: Course, output: Output, watch: Watch) -> None:
    accelerator, folder = trained.accelerator, output.stage(course.stage)
    shares = Shares.of(course.accumulate, course.sizes, accelerator.process_index, accelerator.num_processes)
    accelerator.gradient_accumulation_steps = shares.each
    peaks = [float(group["lr"]) for group in _groups(trained)]
    sums, pace = Sums(), _Pace(next(iter(course.sizes.values())) * course.accumulate)
    kept = Kept(accelerator, trained.module, trained.optimizers, [sums, *filter(None, [trained.average])])
    start = resume(kept, folder)
    curves = Curves(folder, start)

    def record(done: int, values: Mapping[str, float]) -> None:
        curves.add(done, values)
        accelerator.log(dict(values), step=done)

    with tracking(accelerator, output, course.title, start), watch.progress(course.title) as progress:
        progress(start, course.steps)
        if start == 0 and course.scores_untrained:
            record(0, _scores(trained, objective, 0))
        trained.module.train()
        for step in range(start, course.steps):
            interruption.check()
            loss, values = _move(trained, objective, course, shares, peaks, step)
            sums.add(values)
            pace.add(loss)
            done, last = step + 1, step + 1 == course.steps
            if done % course.record_every == 0 or last:
                record(done, sums.means())
                pace.tell()
            progress(done, course.steps, pace.note)
            if done % course.evaluate_every == 0 or last:
                record(done, _scores(trained, objective, done))
                pace.rest()
            if done % course.save_every == 0 or last:
                output.claim(accelerator.is_main_process)
                if accelerator.is_main_process:
                    curves.save()
                save_state(kept, folder, done)
    if trained.average:
        trained.average.settle()
    trained.module.eval()


def _groups(trained: Trained) -> list[dict[str, float]]:
    """The parameter groups of all optimizers; those of an optimizer that has loaded its state are others."""
    return [group for optimizer in trained.optimizers for group in optimizer.param_groups]


def _move(
    trained: Trained, objective: Objective, course: Course, shares: Shares, peaks: Sequence[float], step: int
) -> tuple[float, dict[str, float]]:
    """Move the weights once; the loss of this process, and what is recorded, on average over parts and processes."""
    accelerator, module = trained.accelerator, trained.module
    for group, peak in zip(_groups(trained), peaks, strict=True):
        group["lr"] = learning_rate(step, course.steps, peak, warmup=course.warmup, least=course.least)
    noted: dict[str, list[Tensor]] = {}
    terms: list[Term] = []
    for part in shares.at(step):
        seed_all((course.seed * 1_000_003 + part.number * part.pieces + part.piece) % 2**63)
        with accelerator.accumulate(module):
            for term in objective.terms(part):
                accelerator.backward(term.weight * term.loss)
                terms.append(replace(term, loss=term.loss.detach(), values={}))  # no graph is kept
                for name, value in term.values.items():
                    noted.setdefault(name, []).append(value.detach().mean())
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(module.parameters(), course.clip)
            for optimizer in trained.optimizers:
                optimizer.step()
            for optimizer in trained.optimizers:
                optimizer.zero_grad()
    if trained.average:
        trained.average.follow(step)
    # A step waits for the device once, when all its work is under way.
    found = [torch.stack([term.loss.double() for term in terms])]
    if noted:
        means = torch.stack([torch.stack(values).mean().double() for values in noted.values()])
        found.append(accelerator.reduce(means, "mean"))
    told: list[float] = torch.cat(found).tolist()
    each, recorded = told[: len(terms)], told[len(terms) :]
    _check_finite(terms, each, step)
    loss = sum(term.weight * own / shares.each for term, own in zip(terms, each, strict=True))
    return loss, dict(zip(noted, recorded, strict=True))


def _check_finite(terms: Sequence[Term], losses: Sequence[float], step: int) -> None:
    """ImagecotError naming step and batch where the loss of a term is not finite; nothing of the step is kept then."""
    for term, loss in zip(terms, losses, strict=True):
        if not math.isfinite(loss):
            batch = f" ({term.batch})" if term.batch else ""
            raise ImagecotError(f"the loss became {loss} at step {step}{batch}; lower learning_rate in the recipe.")


def _scores(trained: Trained, objective: Objective, done: int) -> dict[str, float]:
    """The scores after so many steps, of the average where there is one, as they are recorded."""
    trained.module.eval()
    with gathered(trained.module), trained.average.shown() if trained.average else nullcontext():
        found = objective.evaluate(done)
    trained.module.train()
    return {f"score/{name}": value for name, value in found.items()}


class _Pace:
    """Says loss and examples a second of the steps since it was last told."""

    def __init__(self, examples: int) -> None:
        self.examples, self.note = examples, ""
        self.rest()

    def rest(self) -> None:
        """Begin anew: what was done before does not count."""
        self.losses: list[float] = []
        self.began = time.perf_counter()

    def add(self, loss: float) -> None:
        """Take in the loss of a step."""
        self.losses.append(loss)

    def tell(self) -> None:
        """Set the note."""
        steps, seconds = len(self.losses), time.perf_counter() - self.began
        rate = self.examples * steps / max(seconds, 1e-9)
        self.note = f"loss {sum(self.losses) / max(1, steps):.4f}  {rate:.0f} examples/s"
        self.rest()
