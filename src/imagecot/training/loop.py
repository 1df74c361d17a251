"""The training loop that all recipes from scratch share: AdamW, EMA, checkpoints, exact resume, curves.

A batch is a function of (seed, step) alone, so a run that was killed and resumed computes the very losses
of a run that was not.
"""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from imagecot import interruption
from imagecot.errors import ImagecotError
from imagecot.figures import literal
from imagecot.files import make_own_folder, write_atomically
from imagecot.reading import read_text
from imagecot.recipe_fields import (
    RECIPE,
    Batch,
    Count,
    Flag,
    Positive,
    PositiveRate,
    Rate,
    Seed,
    Share,
    ShareBelowOne,
    Weight,
    Whole,
)
from imagecot.training.state import check_optimizer, read_state, refusing_damage, write_state

Losses = dict[str, Tensor]
_STATE = "state.pt"
_HEADER = ("step", "name", "value")  # of curves.csv


class Optimization(BaseModel):
    """What every recipe from scratch says about its optimisation."""

    model_config = RECIPE

    steps: Count
    batch_size: Batch
    learning_rate: PositiveRate
    min_learning_rate: Rate = 0.0
    warmup: Whole = 200
    weight_decay: Weight = 0.01
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.99)
    clip: Positive = 1.0
    muon: Flag = False
    ema: Share = 0.999
    seed: Seed = 0
    bf16: Flag = True
    save_every: Count = 500
    evaluate_every: Count = 2000


def learning_rate(step: int, opt: Optimization) -> float:
    """Linear warm-up, then a cosine to `min_learning_rate`."""
    if step < opt.warmup:
        return opt.learning_rate * (step + 1) / opt.warmup
    t = (step - opt.warmup) / max(1, opt.steps - opt.warmup)
    return opt.min_learning_rate + (opt.learning_rate - opt.min_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * min(t, 1))
    )


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A generator whose draws depend on (seed, step, stream) alone."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 16 + stream) % 2**64)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and convolutions, not norms, biases and embeddings."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and "embed" not in name else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def optimizers(model: nn.Module, opt: Optimization) -> list[torch.optim.Optimizer]:
    """AdamW; with `opt.muon` Muon (Jordan et al., 2024) for the matrices between embeddings and head."""
    groups = parameter_groups(model, opt.weight_decay)
    if not opt.muon:
        return [torch.optim.AdamW(groups, lr=opt.learning_rate, betas=opt.betas, fused=True)]
    layers = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    inner = {id(p) for p in layers}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in inner]} for group in groups]
    return [
        torch.optim.AdamW(rest, lr=opt.learning_rate, betas=opt.betas, fused=True),
        # Scaled to AdamW's step size, so both follow one schedule.
        torch.optim.Muon(layers, lr=opt.learning_rate, weight_decay=opt.weight_decay, adjust_lr_fn="match_rms_adamw"),
    ]


class Curves:
    """Losses and scores by step, in `curves.csv` (long form) and as a picture."""

    def __init__(self, folder: Path, start: int) -> None:
        """Go on with the curves of `folder` up to the step `start`; ImagecotError where they are damaged."""
        self.path = folder / "curves.csv"
        self.rows: list[tuple[int, str, float]] = []
        if self.path.exists() and start:
            advice = "delete it; the training goes on without its earlier curves"
            text = read_text(self.path, advice=advice)
            with refusing_damage(self.path, advice):
                header, *lines = csv.reader(io.StringIO(text))
                if header != list(_HEADER):
                    raise ValueError(f"it does not begin with {','.join(_HEADER)}")
                rows = [(int(s), n, float(v)) for s, n, v in lines]
            self.rows = [row for row in rows if row[0] <= start]

    def add(self, step: int, values: dict[str, float]) -> None:
        """Record values of a step."""
        self.rows += [(step, name, value) for name, value in values.items()]

    def save(self) -> None:
        """Write the table and the picture."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        def table(path: Path) -> None:
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([_HEADER, *self.rows])

        write_atomically(self.path, table)
        names = list(dict.fromkeys(name for _, name, _ in self.rows))
        if not names:
            return
        columns = min(3, len(names))
        lines = math.ceil(len(names) / columns)
        figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 2.6 * lines), squeeze=False)
        for axis, name in zip(axes.flat, names, strict=False):
            points = [(s, v) for s, n, v in self.rows if n == name]
            axis.plot([s for s, _ in points], [v for _, v in points], lw=1)
            axis.set_title(literal(name), fontsize=9)
            axis.tick_params(labelsize=7)
        for axis in list(axes.flat)[len(names) :]:
            axis.axis("off")
        figure.tight_layout()
        write_atomically(self.path.with_suffix(".png"), lambda p: figure.savefig(p, format="png", dpi=90))
        plt.close(figure)


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, int], Losses],
    opt: Optimization,
    folder: Path,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    title: str = "training",
    claim: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train `model` and return its exponential moving average.

    Args:
        model: what is trained, on its device.
        loss: maps (model, step) to named losses; "loss" is minimised, the rest is recorded.
        opt: the optimisation.
        folder: where `state.pt`, `curves.csv` and `curves.png` are kept; an earlier state there is resumed.
        evaluate: scores of the averaged model, recorded under "score/...".
        title: what the progress bar says.
        claim: called before anything is written that is not computed again.

    Raises:
        ImagecotError: the loss is not finite, the folder cannot be written, or the earlier state is damaged.
    """
    make_own_folder(folder)
    state = _State.begin(model, opt, folder)
    curves = Curves(folder, state.step)
    clock = _Clock(opt.batch_size, state.step)
    model.train()
    columns = [
        TextColumn(f"{title} {{task.completed}}/{{task.total}}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=opt.steps, completed=state.step, note="")
        while state.step < opt.steps:
            interruption.check()
            state.move(loss, opt)
            done, last = state.step, state.step == opt.steps
            if done % 50 == 0 or last:
                means = state.means()
                curves.add(done, means)
                bar.update(task, completed=done, note=f"loss {means['loss']:.4f}  {clock.rate(done):.0f} images/s")
            if evaluate and (done % opt.evaluate_every == 0 or last):
                with state.averaged():
                    curves.add(done, {f"score/{name}": value for name, value in evaluate(model).items()})
                clock = _Clock(opt.batch_size, done)
            if done % opt.save_every == 0 or last:
                claim()
                state.save(folder)
                curves.save()
    model.load_state_dict(state.average)
    return model.eval()


class _Clock:
    """Examples a second since it was last asked, or set up."""

    def __init__(self, batch_size: int, step: int) -> None:
        self.batch_size, self.step, self.began = batch_size, step, time.perf_counter()

    def rate(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self.step) * self.batch_size / (now - self.began)
        self.step, self.began = step, now
        return rate


@dataclass
class _State:
    """All that a training is after `step` steps: what a resumed one reads back.

    average  the weights' exponential moving average
    sums     of the losses by name over the `seen` steps since they were last recorded
    """

    model: nn.Module
    steppers: list[torch.optim.Optimizer]
    average: dict[str, Tensor]
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seen: int = 0

    @classmethod
    def begin(cls, model: nn.Module, opt: Optimization, folder: Path) -> Self:
        """The state that `folder` holds, or that of an untrained model."""
        steppers = optimizers(model, opt)
        state = cls(model, steppers, {name: tensor.detach().clone() for name, tensor in model.state_dict().items()})
        file = folder / _STATE
        if file.exists():
            saved = read_state(file)
            with refusing_damage(file):
                state._take(saved)
        return state

    def _take(self, saved: dict[str, Any]) -> None:
        """Go on from what `save` wrote; raises what torch and Python raise where it is of another training."""
        self.model.load_state_dict(saved["model"])
        for stepper, own in zip(self.steppers, saved["optimizers"], strict=True):
            stepper.load_state_dict(own)
            check_optimizer(stepper)
        mine = {name: tensor.shape for name, tensor in self.average.items()}
        if {name: tensor.shape for name, tensor in saved["average"].items()} != mine:
            raise ValueError("its averaged weights are of another model")
        self.average, self.step = saved["average"], int(saved["step"])
        self.sums, self.seen = {name: float(value) for name, value in saved["sums"].items()}, int(saved["seen"])
        if self.step < 1 or self.seen < 0:
            raise ValueError(f"it is of step {self.step}")

    def save(self, folder: Path) -> None:
        """Write what `begin` reads."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [stepper.state_dict() for stepper in self.steppers],
            "average": self.average,
            "step": self.step,
            "sums": self.sums,
            "seen": self.seen,
        }
        write_state(folder / _STATE, state)

    def move(self, loss: Callable[[nn.Module, int], Losses], opt: Optimization) -> None:
        """Do a step; ImagecotError where the loss is not finite."""
        model, step = self.model, self.step
        for group in (group for stepper in self.steppers for group in stepper.param_groups):
            group["lr"] = learning_rate(step, opt)
        device_type = next(model.parameters()).device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=opt.bf16):
            losses = loss(model, step)
        total = losses["loss"]
        if not torch.isfinite(total):
            raise ImagecotError(f"the loss became {total.item()} at step {step}; lower learning_rate in the recipe.")
        model.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), opt.clip)
        for stepper in self.steppers:
            stepper.step()
        decay = min(opt.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.seen += 1
        self.step += 1

    def means(self) -> dict[str, float]:
        """The losses' means since this was last asked."""
        means = {name: value / self.seen for name, value in self.sums.items()}
        self.sums, self.seen = {}, 0
        return means

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have the averaged weights, for an evaluation."""
        trained = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        yield
        self.model.train()
        self.model.load_state_dict(trained)


def batch_indices(count: int, opt: Optimization, step: int) -> list[int]:
    """Which examples step `step` sees: a random draw that depends on (seed, step) alone."""
    return torch.randint(count, (opt.batch_size,), generator=step_generator(opt.seed, step)).tolist()
