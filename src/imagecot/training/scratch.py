"""How every recipe with an `Optimization` is followed: a module that computes named losses, and the average of a model.

Several processes add up: each computes the losses of a part of its own in every step, and gradients are averaged, so a
step sees a batch a process. What wraps the module is data parallelism alone, since the average is of whole weights.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from imagecot import launch
from imagecot.training.average import Average
from imagecot.training.loop import Course, Part, Term, Trained, fit
from imagecot.training.optimization import Optimization, optimizers
from imagecot.training.output import Output
from imagecot.watch import SILENT, Watch

Losses = dict[str, Tensor]
_RECORD_EVERY = 50


@dataclass(frozen=True)
class _Named:
    """The losses of a module: `loss` is minimised, the rest is recorded."""

    module: nn.Module
    score: Callable[[], Mapping[str, float]] | None

    def terms(self, part: Part) -> Iterable[Term]:
        """The one term of a part."""
        losses: Losses = self.module(part)
        yield Term(losses["loss"], losses)

    def evaluate(self, done: int) -> Mapping[str, float]:
        """The scores of the model as it is."""
        return self.score() if self.score else {}


def train_from_scratch(
    losses: nn.Module,
    model: nn.Module,
    opt: Optimization,
    output: Output,
    *,
    title: str,
    stage: str = "",
    score: Callable[[], Mapping[str, float]] | None = None,
    on_cpu: bool = True,
    watch: Watch = SILENT,
) -> None:
    """Train `model` and leave it with its averaged weights; an earlier state in `output` is resumed.

    Args:
        losses: holds the model and nothing else that has weights; maps a `Part` to named losses, of which "loss" is
            minimised and the rest recorded.
        model: whose weights are averaged.
        opt: the optimisation.
        output: where state and curves are kept.
        title: what is trained.
        stage: see `Course`.
        score: scores of the model as it is.
        on_cpu: whether it is trained there, though there may be a GPU.
        watch: is told how far it is.

    Raises:
        ImagecotError: the loss is not finite, the folder cannot be written, or the earlier state is damaged.
    """
    accelerator = launch.accelerator(
        "bf16" if opt.bf16 else "no", on_cpu=on_cpu, report_to=output.report_to, logs=output.logs
    )
    losses.to(accelerator.device)  # before the average is made of what it holds
    average = Average(model, opt.ema)
    prepared = accelerator.prepare(losses, *optimizers(model, opt))
    course = Course(
        title=title,
        steps=opt.steps,
        sizes={"batch_size": opt.batch_size},
        accumulate=accelerator.num_processes,
        seed=opt.seed,
        warmup=opt.warmup,
        least=opt.min_learning_rate,
        clip=opt.clip,
        record_every=_RECORD_EVERY,
        evaluate_every=opt.evaluate_every,
        save_every=opt.save_every,
        stage=stage,
    )
    trained = Trained(accelerator, prepared[0], prepared[1:], average)
    fit(trained, _Named(trained.module, score), course, output, watch=watch)
