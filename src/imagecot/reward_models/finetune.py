"""Fine-tuning of a verifier on ranking data: the same questions, loss on the answer only (paper, section 2.2, 3.3).

It trains what answers: the forward pass is the verifier's own, and the target is the token yes or no at its last
position; of reflections, the written reasons too. Runs under `accelerate`: one process, DDP, FSDP or DeepSpeed by its
own configuration.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import interruption, launch
from imagecot.curation.dataset import Row
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import write_folder
from imagecot.prompts import check_prompts
from imagecot.reward_models.recipe import FineTuneRecipe
from imagecot.reward_models.rows import IGNORED, mix, moved, read_batch
from imagecot.reward_models.scores import evaluate
from imagecot.search_config import copy_search_config
from imagecot.training.card import write_card
from imagecot.training.loop import Curves
from imagecot.training.lora import Lora, add_adapter, save_adapter
from imagecot.training.order import epoch_order, schedule
from imagecot.training.output import Output, open_output, shards_of
from imagecot.training.state import resume, save_state, seed_all
from imagecot.verifiers import load_verifier
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier

__all__ = ["FineTuneRecipe", "train_answers"]


class Answers(nn.Module):
    """Logits of the answer's tokens for images, ids (B, L) and their mask; the unit that accelerate wraps."""

    def __init__(self, verifier: LlavaOnevisionVerifier) -> None:
        super().__init__()
        self.verifier = verifier
        self.model = verifier.model

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor, last: int) -> Tensor:
        """Read images (B, 3, H, W) in [0, 1] and texts once; logits (B, last, V) at the last positions."""
        states = self.verifier.states(self.verifier.embed(images, ids), mask)
        logits: Tensor = self.model.lm_head(states[:, -last:])
        return logits


def answer_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits (B, T, V) at `targets` (B, T): of the first token, plus the mean of those behind it.

    So yes or no weighs the same whether reasons follow or not, and long reasons weigh as much as short ones.
    """
    each = F.cross_entropy(logits.float().transpose(1, 2), target, ignore_index=IGNORED, reduction="none")
    said = target != IGNORED
    first = said & (said.cumsum(1) == 1)
    rest = said & ~first
    return (each.where(first, 0).sum(1) + each.where(rest, 0).sum(1) / rest.sum(1).clamp_min(1)).mean()


def parameter_groups(model: nn.Module, recipe: FineTuneRecipe) -> list[dict[str, Any]]:
    """What is trained at which rate; the vision tower has its own, and stays as it is at rate 0."""
    vision: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if "vision_tower" in name:
            if recipe.lora is None:
                parameter.requires_grad_(recipe.vision_learning_rate > 0 and "post_layernorm" not in name)
            vision += [parameter] if parameter.requires_grad else []
        elif parameter.requires_grad:
            rest.append(parameter)
    groups = [(rest, recipe.learning_rate), (vision, recipe.vision_learning_rate)]
    return [{"params": params, "lr": rate} for params, rate in groups if params]


@dataclass
class _Examples:
    """The rows of a training in the order in which they are shown, each as often as its weight says."""

    rows: Sequence[Row]
    weights: Sequence[float]
    seed: int
    orders: dict[int, list[int]] = field(default_factory=dict)

    @cached_property
    def per_epoch(self) -> int:
        """How many rows an epoch shows."""
        return len(epoch_order(self.weights, self.seed, 0))

    def at(self, position: int) -> Row:
        """The row at a position of the endless order."""
        epoch, place = divmod(position, self.per_epoch)
        if epoch not in self.orders:
            self.orders = {epoch: epoch_order(self.weights, self.seed, epoch)}
        return self.rows[self.orders[epoch][place % len(self.orders[epoch])]]


@dataclass(frozen=True)
class _Run:
    """A fine-tuning under way; `answers` is what accelerate has wrapped."""

    recipe: FineTuneRecipe
    accelerator: Any
    verifier: LlavaOnevisionVerifier
    adapter: Any
    answers: Any
    optimizer: Any
    rates: list[float]
    examples: _Examples
    held: list[Row]
    steps: int


def train_answers(recipe: FineTuneRecipe) -> Any:
    """Fine-tune and write the verifier (or its adapter) to `recipe.output`; an interrupted run is resumed."""
    output = _output(recipe)
    if output.finished:
        return load_verifier(recipe.output)
    run = _start(recipe)
    folder = output.prepare()
    start = resume(run.accelerator, folder)
    curves = Curves(folder, start)
    sums: list[float] = []
    steps = run.steps
    for step in track(range(start, steps), description="fine-tuning", total=steps - start, transient=True):
        interruption.check()
        sums += _step(run, step)
        done = step + 1
        if done % 10 == 0 or done == steps:
            curves.add(done, {"loss": sum(sums) / len(sums)})
            sums = []
        if done % recipe.evaluate_every == 0 or done == steps:
            run.verifier.model.eval()
            curves.add(done, {f"score/{k}": v for k, v in evaluate(run.verifier, run.held, recipe).items()})
        if done % recipe.save_every == 0 or done == steps:
            output.claim(run.accelerator.is_main_process)
            if run.accelerator.is_main_process:
                curves.save()
            save_state(run.accelerator, folder, done)
    if run.accelerator.is_main_process:
        _write(run.verifier, run.adapter, recipe)
        output.finish()
    run.accelerator.wait_for_everyone()
    return run.verifier


def _start(recipe: FineTuneRecipe) -> _Run:
    """Load the data and the models of a recipe."""
    train, held, weights = mix(recipe)
    accelerator = launch.accelerator(recipe.precision, recipe.accumulate)
    seed_all(recipe.seed)
    verifier = load_verifier(recipe.base, dtype=torch.float32)
    if not isinstance(verifier, LlavaOnevisionVerifier):
        raise UsageError(f"{recipe.base} is no LLaVA-OneVision; fine-tuning knows this architecture only.")
    adapter = _add_lora(verifier, recipe.lora, recipe) if recipe.lora else None
    if recipe.gradient_checkpointing:
        verifier.model.activation_checkpointing_enable()
    check_prompts(dict.fromkeys(row["prompt"] for row in (*train, *held)), verifier)
    groups = parameter_groups(verifier.model, recipe)
    optimizer: Any = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    answers, optimizer = accelerator.prepare(Answers(verifier), optimizer)
    examples = _Examples(train, weights, recipe.seed)
    per_step = recipe.batch_size * accelerator.num_processes * recipe.accumulate
    return _Run(
        recipe=recipe,
        accelerator=accelerator,
        verifier=verifier,
        adapter=adapter,
        answers=answers,
        optimizer=optimizer,
        rates=[group["lr"] for group in groups],
        examples=examples,
        held=held,
        steps=max(1, math.ceil(recipe.epochs * examples.per_epoch / per_step)),
    )


def _step(run: _Run, step: int) -> list[float]:
    """Move the weights once; the losses of all parts of the step."""
    recipe, accelerator, answers, optimizer = run.recipe, run.accelerator, run.answers, run.optimizer
    for group, rate in zip(optimizer.param_groups, run.rates, strict=True):
        group["lr"] = rate * schedule(step, run.steps, recipe.warmup_ratio)
    losses = []
    for part in range(recipe.accumulate):
        number = (step * recipe.accumulate + part) * accelerator.num_processes + accelerator.process_index
        first = number * recipe.batch_size
        rows = [run.examples.at(first + k) for k in range(recipe.batch_size)]
        images, ids, mask, target = read_batch(run.verifier, rows, recipe.clarity_label)
        images = moved(images, recipe.shift, torch.Generator().manual_seed(((recipe.seed << 32) + first) % 2**64))
        with accelerator.accumulate(answers):
            loss = answer_loss(answers(images, ids, mask, target.shape[1]), target)
            if not torch.isfinite(loss):
                raise ImagecotError(f"the loss became {loss.item()} at step {step}; lower learning_rate.")
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(answers.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def _output(recipe: FineTuneRecipe) -> Output:
    """The folder of a recipe, looked at before a model is loaded; so are its data."""
    mixed = [source.model_dump(exclude={"folder"}) | {"content": shards_of(source.folder)} for source in recipe.data]
    models = {"base": ("verifier", recipe.base)}
    return open_output(recipe.output, "verifier (fine-tuning)", recipe, models=models, files={"data": mixed})


def _add_lora(verifier: LlavaOnevisionVerifier, lora: Lora, recipe: FineTuneRecipe) -> Any:
    """Add low-rank updates to the model of the verifier; peft's model."""
    targets = [r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"]
    if recipe.vision_learning_rate > 0:
        targets.append(r".*vision_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)")
    # The layers are replaced in place: the verifier goes on with its own forward pass.
    return add_adapter(verifier.model, lora, recipe.base, "|".join(targets))


def _write(verifier: LlavaOnevisionVerifier, adapter: Any, recipe: FineTuneRecipe) -> None:
    """Write the adapter, or the whole model in half precision with its tokenizer and how it likes to be searched with.

    adapter  peft's model where low-rank updates alone were trained; all else its base says
    """

    def write(folder: Path) -> None:
        model = copy.deepcopy(verifier.model)
        (model.half() if recipe.precision != "bf16" else model.bfloat16()).save_pretrained(folder)
        verifier.tokenizer.save_pretrained(folder)

    write_folder(recipe.output, write if adapter is None else partial(save_adapter, adapter))
    if adapter is None:
        copy_search_config(recipe.base, recipe.output, verifier.settings.get("questions"))
    folders = ", ".join(dict.fromkeys(str(source.folder) for source in recipe.data))
    write_card(recipe.output, "verifier", recipe.base, f"fine-tuning on {folders}", recipe)
