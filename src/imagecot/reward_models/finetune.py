"""Fine-tuning of a verifier on ranking data: the same questions, loss on the answer only (paper, section 2.2, 3.3).

It trains what answers: the forward pass is the verifier's own, and the target is the token yes or no at its last
position; of reflections, the written reasons too. Runs as one process, or as several of `torchrun` that hold whole
weights (DDP) or, with `shard`, shares of them (FSDP2).
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from imagecot import launch, peers
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Verifier
from imagecot.curation.schema import RankingRow
from imagecot.errors import UsageError
from imagecot.files import write_folder
from imagecot.peers import rank_and_world
from imagecot.prompts import check_prompts
from imagecot.reward_models.recipe import FineTuneRecipe
from imagecot.reward_models.rows import IGNORED, mix, moved, read_batch
from imagecot.reward_models.scores import evaluate
from imagecot.search_config import copy_search_config
from imagecot.training.card import write_card
from imagecot.training.loop import Course, Part, Term, Trained, fit
from imagecot.training.lora import Lora, add_adapter, save_adapter
from imagecot.training.order import epoch_order
from imagecot.training.output import Output, open_output, shards_of
from imagecot.training.schedule import warmup_steps
from imagecot.training.sharding import Forward, is_shared, prepared, take, whole_weights
from imagecot.training.state import seed_all
from imagecot.verifiers import load_verifier
from imagecot.verifiers.chat_verifier import ChatVerifier, Trainable
from imagecot.verifiers.loading import trained
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["FineTuneRecipe", "train_answers"]
_RECORD_EVERY = 10  # steps


def answer_logits(verifier: ChatVerifier, images: Tensor, ids: Tensor, mask: Tensor, last: int) -> Tensor:
    """Read images (B, 3, H, W) in [0, 1] and texts (B, L) once; logits (B, last, V) at the last positions."""
    states = verifier.states(verifier.embed(images, ids), mask)
    logits: Tensor = verifier.model.lm_head(states[:, -last:])
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


@dataclass(frozen=True)
class Group:
    """Weights, by their names in the model, that are trained at one rate."""

    names: list[str]
    rate: float


def parameter_groups(model: nn.Module, recipe: FineTuneRecipe, parts: Trainable) -> list[Group]:
    """What is trained at which rate; the vision tower has its own, and stays as it is at rate 0."""
    vision: list[str] = []
    rest: list[str] = []
    for name, parameter in model.named_parameters():
        seeing = parts.eye in name
        if recipe.lora is None and (seeing or parts.is_idle(name)):
            parameter.requires_grad_(recipe.vision_learning_rate > 0 and not parts.is_idle(name))
        if seeing:
            vision += [name] if parameter.requires_grad else []
        elif parameter.requires_grad:
            rest.append(name)
    groups = [Group(rest, recipe.learning_rate), Group(vision, recipe.vision_learning_rate)]
    return [group for group in groups if group.names]


@dataclass
class _Examples:
    """The rows of a training in the order in which they are shown, each as often as its weight says."""

    rows: Sequence[RankingRow]
    weights: Sequence[float]
    seed: int
    orders: dict[int, list[int]] = field(default_factory=dict)

    @cached_property
    def per_epoch(self) -> int:
        """How many rows an epoch shows."""
        return len(epoch_order(self.weights, self.seed, 0))

    def at(self, position: int) -> RankingRow:
        """The row at a position of the endless order."""
        epoch, place = divmod(position, self.per_epoch)
        if epoch not in self.orders:
            self.orders = {epoch: epoch_order(self.weights, self.seed, epoch)}
        return self.rows[self.orders[epoch][place % len(self.orders[epoch])]]


@dataclass(frozen=True)
class _FineTuning:
    """What a fine-tuning minimises and is scored on; `answers` is what accelerate has wrapped."""

    recipe: FineTuneRecipe
    verifier: ChatVerifier
    answers: nn.Module
    examples: _Examples
    held: Sequence[RankingRow]

    def terms(self, part: Part) -> Iterable[Term]:
        """The loss of the answers to a batch of rows."""
        recipe = self.recipe
        places = part.places(recipe.batch_size)
        rows = [self.examples.at(place) for place in places]
        images, ids, mask, target = read_batch(self.verifier, rows, recipe.clarity_label)
        images = moved(images, recipe.shift, self._corners(part, places))
        asked = partial(answer_logits, images=images, ids=ids, mask=mask, last=target.shape[1])
        loss = answer_loss(self.answers(lambda verifier: (asked(verifier).clone(),))[0], target)
        yield Term(loss, {"loss": loss})

    def _corners(self, part: Part, places: range) -> list[list[int]]:
        """Where each image is cut out, drawn for the whole part, whoever sees which piece of it."""
        first, size = part.number * self.recipe.batch_size, self.recipe.batch_size
        draw = torch.Generator().manual_seed(((self.recipe.seed << 32) + first) % 2**64)
        corners: list[list[int]] = torch.randint(2 * self.recipe.shift + 1, (size, 2), generator=draw).tolist()
        return corners[places.start - first : places.stop - first]

    def evaluate(self, done: int) -> Mapping[str, float]:
        """Scores on the rows held out."""
        return evaluate(self.verifier, self.held, self.recipe)


def train_answers(recipe: FineTuneRecipe, *, watch: Watch = SILENT) -> Verifier:
    """Fine-tune and write the verifier (or its adapter) to `recipe.output`; an interrupted run is resumed."""
    output = _output(recipe)
    if output.finished:
        return load_verifier(recipe.output)
    train, held, weights = mix(recipe)
    accelerator = launch.accelerator(recipe.precision, report_to=output.report_to, logs=output.logs)
    seed_all(recipe.seed)
    verifier, adapter = _load(recipe, accelerator.device)
    check_prompts(dict.fromkeys(row.prompt for row in (*train, *held)), verifier)
    groups = parameter_groups(verifier.model, recipe, verifier.chat.trainable)
    answers = prepared(accelerator, Forward(verifier, verifier.model), shard=recipe.shard)
    optimizer = torch.optim.AdamW(_named(groups, verifier.model), weight_decay=recipe.weight_decay)
    tuning = _FineTuning(recipe, verifier, answers, _Examples(train, weights, recipe.seed), held)
    fit(
        Trained(accelerator, answers, [accelerator.prepare_optimizer(optimizer)]),
        tuning,
        _course(tuning),
        output,
        watch=watch,
    )
    verifier, adapter = _written(verifier, adapter, answers, recipe)
    with peers.first():
        if accelerator.is_main_process:
            _write(verifier, adapter, recipe)
            output.finish()
    return verifier


def _named(groups: Sequence[Group], model: nn.Module) -> list[dict[str, object]]:
    """What is trained at which rate, as torch's optimizers take it; by name, since shares are other tensors."""
    own = dict(model.named_parameters())
    return [{"params": [own[name] for name in group.names], "lr": group.rate} for group in groups]


def _written(
    verifier: ChatVerifier, adapter: "PeftModel | None", answers: nn.Module, recipe: FineTuneRecipe
) -> "tuple[ChatVerifier, PeftModel | None]":
    """The verifier, and peft's model, as the main process writes them; all processes take part."""
    if not is_shared(answers):
        return verifier, adapter
    weights = whole_weights(answers)
    if rank_and_world()[0]:
        return verifier, adapter
    verifier, adapter = _load(recipe, torch.device("cpu"))
    parameter_groups(verifier.model, recipe, verifier.chat.trainable)
    take(Forward(verifier, verifier.model), weights)
    return verifier, adapter


def _load(recipe: FineTuneRecipe, device: torch.device) -> "tuple[ChatVerifier, PeftModel | None]":
    """Load the verifier that is trained, and peft's model where low-rank updates alone are."""
    verifier = load_verifier(recipe.base, device=device, dtype=torch.float32)
    if not isinstance(verifier, ChatVerifier):
        raise UsageError(
            f"{recipe.base} is neither LLaVA-OneVision nor Janus; fine-tuning knows these architectures only."
        )
    verifier = trained(verifier)
    adapter = _add_lora(verifier, recipe.lora, recipe) if recipe.lora else None
    if recipe.gradient_checkpointing:
        assert isinstance(verifier.model, PreTrainedModel)  # as `trained` says
        verifier.model.activation_checkpointing_enable()
    return verifier, adapter


def _course(tuning: _FineTuning) -> Course:
    recipe = tuning.recipe
    per_step = recipe.batch_size * recipe.accumulate
    steps = max(1, math.ceil(recipe.epochs * tuning.examples.per_epoch / per_step))
    return Course(
        title=recipe.kind,
        steps=steps,
        sizes={"batch_size": recipe.batch_size},
        seed=recipe.seed,
        accumulate=recipe.accumulate,
        warmup=warmup_steps(steps, recipe.warmup_ratio),
        clip=recipe.clip,
        record_every=_RECORD_EVERY,
        evaluate_every=recipe.evaluate_every,
        save_every=recipe.save_every,
    )


def _output(recipe: FineTuneRecipe) -> Output:
    """The folder of a recipe, looked at before a model is loaded; so are its data."""
    mixed: list[JSON] = [
        source.model_dump(exclude={"folder"}) | {"content": shards_of(source.folder)} for source in recipe.data
    ]
    return open_output(recipe, models={"base": ("verifier", recipe.base)}, files={"data": mixed})


def _add_lora(verifier: ChatVerifier, lora: Lora, recipe: FineTuneRecipe) -> "PeftModel":
    """Add low-rank updates to the model of the verifier; peft's model."""
    targets = [r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"]
    if recipe.vision_learning_rate > 0:
        targets.append(verifier.chat.trainable.layers)
    # The layers are replaced in place: the verifier goes on with its own forward pass.
    return add_adapter(verifier.model, lora, recipe.base, "|".join(targets))


def _write(verifier: ChatVerifier, adapter: "PeftModel | None", recipe: FineTuneRecipe) -> None:
    """Write the adapter, or the whole model in half precision with its chat and how it likes to be searched with.

    adapter  peft's model where low-rank updates alone were trained; all else its base says
    """

    def write(folder: Path) -> None:
        model = copy.deepcopy(verifier.model)
        assert isinstance(model, PreTrainedModel)  # as `trained` says
        (model.half() if recipe.precision != "bf16" else model.bfloat16()).save_pretrained(folder)
        verifier.chat.save(folder)

    write_folder(recipe.output, write if adapter is None else partial(save_adapter, adapter))
    if adapter is None:
        copy_search_config(recipe.base, recipe.output, verifier.habits.templates or None)
    folders = ", ".join(dict.fromkeys(str(source.folder) for source in recipe.data))
    write_card(recipe.output, "verifier", recipe.base, f"fine-tuning on {folders}", recipe)
