"""Fine-tuning of a verifier on ranking data: the same questions, loss on the answer only (paper, section 2.2, 3.3).

It trains what answers: the forward pass is the verifier's own, and the target is the token yes or no at its last
position; of reflections, the written reasons too. Runs under `accelerate`: one process, DDP, FSDP or DeepSpeed by its
own configuration.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import interruption, launch
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.curation.dataset import REASONS, Row, answer, read_rows
from imagecot.curation.label import CLEAR_AFTER, scaled
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import write_folder
from imagecot.images import from_png
from imagecot.prompts import check_prompts
from imagecot.recipe_fields import (
    RECIPE,
    Batch,
    Count,
    Epochs,
    Few,
    Flag,
    MixedPrecision,
    Name,
    Place,
    Positive,
    PositiveRate,
    Rate,
    Seed,
    Share,
    ShareBelowOne,
    Weight,
    Whole,
)
from imagecot.reflection.answers import answer_scores, found_and_said
from imagecot.reflection.discrepancies import parse, understood
from imagecot.search_config import copy_search_config
from imagecot.training.card import write_card
from imagecot.training.loop import Curves
from imagecot.training.lora import Lora, add_adapter, save_adapter
from imagecot.training.order import epoch_order, is_held_out, schedule
from imagecot.training.output import Output, open_output, shards_of
from imagecot.training.state import resume, save_state, seed_all
from imagecot.verifiers import load_verifier
from imagecot.verifiers.chat import CHAT_END
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier

_QUESTIONS: dict[str, Question] = {q.name: q for q in (ORM, PRM, CLARITY, POTENTIAL, REFLECTION)}
_IGNORED = -100
_REFLECTED = 256  # held-out reflections that are written out in an evaluation


class Source(BaseModel):
    """A curated folder in the mix; `weight` 2 shows each of its rows twice an epoch, 0.5 half of them."""

    model_config = RECIPE

    folder: Place
    questions: list[Literal["orm", "prm", "clarity", "potential", "reflection"]] | None = None
    weight: Positive = Field(1.0, le=1000)


ClarityLabel = Literal["static", "agreement"] | Few


class FineTuneRecipe(BaseModel):
    """A recipe of `imagecot train verifier` that starts from another verifier.

    lora           low-rank updates of the language model and, where it has a rate, of the vision tower
    clarity_label  which previews count as clear: `static`, those of the paper's steps; `agreement`, those in which the
                   scorer sees what it sees in the final image; or those from a step of the generator's own on
    shift          pixels by which a training image is moved at most, at random: what it shows stays the same
    """

    model_config = RECIPE

    output: Place
    base: Name
    data: Annotated[list[Source], Field(min_length=1)]
    clarity_label: ClarityLabel = "static"
    shift: Whole = Field(0, le=1000)
    epochs: Epochs = 1.0
    batch_size: Batch = 32
    accumulate: Few = 1
    learning_rate: PositiveRate
    vision_learning_rate: Rate = 0.0
    warmup_ratio: Share = 0.03
    weight_decay: Weight = 0.0
    clip: Positive = 1.0
    lora: Lora | None = None
    gradient_checkpointing: Flag = False
    precision: MixedPrecision = "no"
    held_out: ShareBelowOne = Field(0.1, gt=0, description="share of the prompts that is kept for evaluation")
    evaluate_every: Count = 100
    save_every: Count = 100
    seed: Seed = 0


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


def answer_ids(verifier: LlavaOnevisionVerifier, row: Row, clarity_label: ClarityLabel) -> list[int]:
    """The tokens that a verifier shall say to a row: yes or no; of a reflection all of it, to its end."""
    word = verifier.words[0 if label_of(row, clarity_label) else 1]
    if row["question"] != REFLECTION.name:
        return [word]
    rest = answer(row).removeprefix(row["label"]) + CHAT_END
    return [word, *verifier.tokenizer(rest, add_special_tokens=False).input_ids]


def targets(answers: Sequence[list[int]]) -> Tensor:
    """Answers as rows (B, longest), ignored places on the left: where their logits are in a left-padded batch."""
    longest = max(len(ids) for ids in answers)
    return torch.tensor([[_IGNORED] * (longest - len(ids)) + ids for ids in answers])


def answer_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits (B, T, V) at `targets` (B, T): of the first token, plus the mean of those behind it.

    So yes or no weighs the same whether reasons follow or not, and long reasons weigh as much as short ones.
    """
    each = F.cross_entropy(logits.float().transpose(1, 2), target, ignore_index=_IGNORED, reduction="none")
    said = target != _IGNORED
    first = said & (said.cumsum(1) == 1)
    rest = said & ~first
    return (each.where(first, 0).sum(1) + each.where(rest, 0).sum(1) / rest.sum(1).clamp_min(1)).mean()


def label_of(row: Row, clarity_label: ClarityLabel) -> bool:
    """Whether a row's answer is yes."""
    if row["question"] == "clarity" and isinstance(clarity_label, int):
        return bool(row["step"] >= clarity_label)
    column = "agreement" if row["question"] == "clarity" and clarity_label == "agreement" else "label"
    if row[column] not in ("yes", "no"):
        raise ImagecotError(f"row {row['id']} has the {column} {row[column]!r}, neither yes nor no; curate again.")
    return bool(row[column] == "yes")


def follows_clarity(row: Row, recipe: FineTuneRecipe) -> bool:
    """Whether a row's question would be asked: of potential, by a clarity that is bound to a step, only from there."""
    if row["question"] != "potential" or recipe.clarity_label == "agreement":
        return True
    static = recipe.clarity_label == "static"
    clear_from = scaled(CLEAR_AFTER, row["steps"]) + 1 if static else recipe.clarity_label
    return bool(row["step"] >= clear_from)


def mix(recipe: FineTuneRecipe) -> tuple[list[Row], list[Row], list[float]]:
    """Rows for training, rows held out, and the weight of each of the former."""
    train: list[Row] = []
    held: list[Row] = []
    weights: list[float] = []
    for source in recipe.data:
        wanted: list[str] = [*(source.questions or _QUESTIONS)]
        rows = [row for row in read_rows(source.folder) if row["question"] in wanted and follows_clarity(row, recipe)]
        if not rows:
            raise UsageError(f"{source.folder} has no rows of the question {' or '.join(wanted)}.")
        for row in rows:
            if is_held_out(row["prompt"], recipe.held_out):
                held.append(row)
            else:
                train.append(row)
                weights.append(source.weight)
    if not train or not held:
        raise UsageError("the ranking data has too few prompts to keep some for evaluation; curate more prompts.")
    return train, held, weights


def images_of(rows: Sequence[Row], size: int) -> Tensor:
    """The images of rows (B, 3, S, S) in [0, 1], resized as the verifier does where sizes differ."""
    from imagecot.verifiers.vision import prepare

    found = [from_png(row["image"]["bytes"])[None] for row in rows]
    if len({image.shape for image in found}) > 1:
        found = [(prepare(image, size) + 1) / 2 for image in found]
    return torch.cat(found)


def moved(images: Tensor, most: int, draw: torch.Generator) -> Tensor:
    """Images (B, 3, H, W), each moved by up to `most` pixels along both axes; what came in repeats the border."""
    if not most:
        return images
    height, width = images.shape[2:]
    wide = F.pad(images, (most,) * 4, mode="replicate")
    corners = torch.randint(2 * most + 1, (len(images), 2), generator=draw).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(wide, corners, strict=True)])


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


@torch.no_grad()
def evaluate(verifier: Any, rows: Sequence[Row], recipe: FineTuneRecipe, batch: int = 64) -> dict[str, float]:
    """Scores of the answers to held-out rows, by task and by question and step."""
    answers: list[Tensor] = []
    size = verifier.model.config.vision_config.image_size
    for question in sorted({row["question"] for row in rows}):
        own = [row for row in rows if row["question"] == question]
        for first in range(0, len(own), batch):
            part = own[first : first + batch]
            images = images_of(part, size)
            answers.append(verifier.ask(images, [row["prompt"] for row in part], _QUESTIONS[question]))
    ordered = sorted(rows, key=lambda row: row["question"])
    p_yes = torch.cat(answers).float()
    labels = torch.tensor([label_of(row, recipe.clarity_label) for row in ordered])
    scores = answer_scores(p_yes, labels, [row["question"] for row in ordered])
    for name in sorted({row["question"] for row in rows}):
        here = torch.tensor([row["question"] == name for row in ordered])
        some = [row for row in ordered if row["question"] == name]
        by_task = answer_scores(p_yes[here], labels[here], [row["task"] for row in some])
        scores |= {f"{name}/{key}": value for key, value in by_task.items() if "/" in key}
        by_step = answer_scores(p_yes[here], labels[here], [f"step {row['step']:02d}" for row in some])
        scores |= {f"{name}/{key}": value for key, value in by_step.items() if "/" in key}
    return scores | reason_scores(verifier, rows, size, batch)


def reason_scores(verifier: Any, rows: Sequence[Row], size: int, batch: int) -> dict[str, float]:
    """Precision and recall of the written reasons of rejected images, where those of the rows can be understood."""
    wrong = [row for row in rows if row["question"] == REFLECTION.name and row["label"] == "no"]
    wrong = [row for row in wrong if parse(row.get(REASONS) or "")][:_REFLECTED]
    if not wrong:
        return {}
    said = []
    for first in range(0, len(wrong), batch):
        part = wrong[first : first + batch]
        said += verifier.reflect(images_of(part, size), [row["prompt"] for row in part])
    found = found_and_said([understood(reflection) for reflection in said], [parse(row[REASONS]) for row in wrong])
    return {f"reflection/{name}": value for name, value in found.items()}


def train_answers(recipe: FineTuneRecipe) -> Any:
    """Fine-tune and write the verifier (or its adapter) to `recipe.output`; an interrupted run is resumed."""
    output = _output(recipe)
    if output.finished:
        return load_verifier(recipe.output)
    train, held, weights = mix(recipe)
    accelerator = launch.accelerator(recipe.precision, recipe.accumulate)
    seed_all(recipe.seed)
    verifier = load_verifier(recipe.base, dtype=torch.float32)
    if not isinstance(verifier, LlavaOnevisionVerifier):
        raise UsageError(f"{recipe.base} is no LLaVA-OneVision; fine-tuning knows this architecture only.")
    adapter = None
    if recipe.lora:
        adapter = _add_lora(verifier, recipe.lora, recipe)
    if recipe.gradient_checkpointing:
        verifier.model.activation_checkpointing_enable()
    check_prompts(dict.fromkeys(row["prompt"] for row in (*train, *held)), verifier)
    answers = Answers(verifier)
    groups = parameter_groups(verifier.model, recipe)
    optimizer: Any = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    answers, optimizer = accelerator.prepare(answers, optimizer)
    rates = [group["lr"] for group in groups]
    world, rank = accelerator.num_processes, accelerator.process_index
    per_step = recipe.batch_size * world * recipe.accumulate
    per_epoch = len(epoch_order(weights, recipe.seed, 0))
    steps = max(1, math.ceil(recipe.epochs * per_epoch / per_step))
    folder = output.prepare()
    start = resume(accelerator, folder)
    curves = Curves(folder, start)
    sums: list[float] = []
    order: dict[int, list[int]] = {}

    def example(position: int) -> Row:
        epoch, at = divmod(position, per_epoch)
        if epoch not in order:
            order.clear()
            order[epoch] = epoch_order(weights, recipe.seed, epoch)
        return train[order[epoch][at % len(order[epoch])]]

    for step in track(range(start, steps), description="fine-tuning", total=steps - start, transient=True):
        interruption.check()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, steps, recipe.warmup_ratio)
        for part in range(recipe.accumulate):
            first = step * per_step + (part * world + rank) * recipe.batch_size
            rows = [example(first + k) for k in range(recipe.batch_size)]
            images, ids, mask, target = _batch(verifier, rows, recipe.clarity_label)
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
            sums.append(float(loss.detach()))
        done = step + 1
        if done % 10 == 0 or done == steps:
            curves.add(done, {"loss": sum(sums) / len(sums)})
            sums = []
        if done % recipe.evaluate_every == 0 or done == steps:
            verifier.model.eval()
            curves.add(done, {f"score/{k}": v for k, v in evaluate(verifier, held, recipe).items()})
        if done % recipe.save_every == 0 or done == steps:
            output.claim(accelerator.is_main_process)
            if accelerator.is_main_process:
                curves.save()
            save_state(accelerator, folder, done)
    if accelerator.is_main_process:
        _write(verifier, adapter, recipe)
        output.finish()
    accelerator.wait_for_everyone()
    return verifier


def _output(recipe: FineTuneRecipe) -> Output:
    """The folder of a recipe, looked at before a model is loaded; so are its data."""
    mixed = [source.model_dump(exclude={"folder"}) | {"content": shards_of(source.folder)} for source in recipe.data]
    models = {"base": ("verifier", recipe.base)}
    return open_output(recipe.output, "verifier (fine-tuning)", recipe, models=models, files={"data": mixed})


def _batch(
    verifier: LlavaOnevisionVerifier, rows: Sequence[Row], clarity_label: ClarityLabel
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (B, 3, S, S) of rows, ids (B, L) of their questions and answers with the mask, and the targets (B, T)."""
    images = images_of(rows, verifier.model.config.vision_config.image_size)
    said = [answer_ids(verifier, row, clarity_label) for row in rows]
    asked = [verifier.text(_QUESTIONS[row["question"]], row["prompt"]) for row in rows]
    # Each token is said behind the ones before it; nothing is said behind the last.
    ids, mask = verifier.layout([text + ids[:-1] for text, ids in zip(asked, said, strict=True)])
    return images, ids, mask, targets(said).to(ids.device)


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
