"""Self-correction of a generator: draw again from prompt, reasons and the rejected image (paper, section 3.4).

Every picture is masked as in the training from scratch. Beside the correction groups plain pictures are drawn from
their captions alone, so that plain generation is not forgotten; they are the accepted images of the groups, or come
from a world that has pictures of its own.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.alignment.aligned import write_aligned
from imagecot.alignment.pair_data import codes_of
from imagecot.contracts.correction import Asked, Correction
from imagecot.contracts.paths import UNDECIDED
from imagecot.curation.corrections import read_corrections
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.generators.masked.masks import random_mask
from imagecot.generators.showo import Prompting, ShowoGenerator
from imagecot.generators.showo.model import omni_attention_mask
from imagecot.generators.showo.shared_bits import SharedBits
from imagecot.prompts import check_prompt
from imagecot.recipe_fields import RECIPE, Count, Flag, Name, Place, Seed, ShareBelowOne, Whole
from imagecot.training.loop import Losses, Optimization, fit, step_generator
from imagecot.training.lora import Lora, add_adapter
from imagecot.training.output import open_output, shards_of

Row = dict[str, Any]
# Captions (B,) and codes (B, N) of plain pictures, for a draw of random numbers and for captions.
Plain = Callable[[int, torch.Generator, random.Random], tuple[list[str], Tensor]]


class PlainPool(BaseModel):
    """Which pictures of the drawn world are the plain ones."""

    model_config = RECIPE

    data: Place = Path("runs/data")
    examples: Count = 100_000
    seed: Seed = 1


# Finds such pictures for a generator by a recipe; what is computed once is kept in the folder.
Pictures = Callable[[ShowoGenerator, PlainPool, Path], Plain]
Score = Callable[[ShowoGenerator, int], dict[str, float]]


class SelfCorrectionRecipe(BaseModel):
    """A recipe of `imagecot train self-correction`: of all weights, or with `lora` of an adapter on `base`."""

    model_config = RECIPE

    output: Place
    base: Name
    groups: Place
    plain: PlainPool | None = None
    plain_share: ShareBelowOne = Field(0.5, description="share of a batch that is plain generation")
    caption_dropout: ShareBelowOne = 0.1
    reasons_dropout: ShareBelowOne = Field(0.1, description="share of the groups that are shown without reasons")
    prompts_per_task: Whole = Field(16, description="held-out prompts of a task that are scored")
    lora: Lora | None = None
    compile: Flag = False
    optimization: Optimization


def train_self_correction(
    recipe: SelfCorrectionRecipe, pictures: Pictures | None = None, score: Score | None = None
) -> ShowoGenerator:
    """Train, and write the averaged generator to `recipe.output`; an interrupted run is resumed.

    pictures  finds the plain pictures of a recipe that asks for some
    score     scores a generator on so many prompts of each task, where a recipe asks for it

    UsageError for a generator that is no Show-o, or where what the recipe asks for is not given.
    """
    opt = recipe.optimization
    if (recipe.plain and pictures is None) or (recipe.prompts_per_task and score is None):
        raise UsageError("plain and prompts_per_task are of a world; leave out plain and set prompts_per_task=0.")
    files = {"groups": shards_of(recipe.groups), "plain.data": None}
    models = {"base": ("generator", recipe.base)}
    output = open_output(recipe.output, "self-correction", recipe, models=models, files=files)
    generator: Any = load_generator(recipe.output if output.finished else recipe.base, dtype=torch.float32)
    if not isinstance(generator, ShowoGenerator):
        raise UsageError(f"{recipe.base} is no Show-o; self-correction knows this architecture only.")
    if output.finished:
        return generator
    model = generator.model
    groups = _read_groups(recipe, generator)
    plain = pictures(generator, recipe.plain, output.prepare()) if pictures and recipe.plain else groups.plain
    model.requires_grad_(True)
    torch.manual_seed(opt.seed)
    adapter = add_adapter(model, recipe.lora, recipe.base, generator.adapted_layers) if recipe.lora else None
    trained = SharedBits(model, generator.image_tokenizer.quantize.embedding).to(model.device)
    nn.init.zeros_(trained.embedding)  # what is loaded holds the parts per bit already
    if adapter:
        for part in (trained.embedding, trained.head):
            part.requires_grad_(False)
    model.showo.set_attn_implementation("eager")  # as in the training from scratch
    loss = _Loss(recipe, generator.prompting, trained, groups, plain, _trunk(recipe, trained))

    def evaluate(averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, SharedBits) and score is not None
        return score(replace(generator, model=averaged.folded()), recipe.prompts_per_task)

    scored = evaluate if recipe.prompts_per_task else None
    fit(trained, loss, opt, output.prepare(), evaluate=scored, title="self-correction", claim=output.claim)
    result = replace(generator, model=model.eval() if adapter else trained.folded())
    write_aligned(result, adapter, recipe.base, recipe.output, "training of self-correction", recipe)
    output.finish()
    return result


@dataclass(frozen=True)
class _Loss:
    """The loss of a step: of correction groups and of plain pictures, each in its share of the batch."""

    recipe: SelfCorrectionRecipe
    prompting: Prompting
    trained: SharedBits
    groups: "_Groups"
    plain: Plain
    trunk: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, _: nn.Module, step: int) -> Losses:
        recipe, opt = self.recipe, self.recipe.optimization
        draw, rng = step_generator(opt.seed, step, 1), random.Random(f"{opt.seed}:{step}")
        count = round(recipe.plain_share * opt.batch_size)
        losses: Losses = {}
        if count < opt.batch_size:
            index = torch.randint(len(self.groups.rows), (opt.batch_size - count,), generator=draw)
            # Guidance goes against the empty prompt and the rejected image, so that is taught as well.
            drop = recipe.caption_dropout
            texts = ["" if rng.random() < drop else _text(self.groups.rows[k], recipe, rng) for k in index.tolist()]
            before = [Correction(codes) for codes in self.groups.rejected[index]]
            asked = list(zip(texts, before, strict=True))
            losses["correction"] = self._of_pictures(asked, self.groups.accepted[index], draw)
        if count:
            captions, codes = self.plain(count, draw, rng)
            captions = ["" if rng.random() < recipe.caption_dropout else caption for caption in captions]
            losses["plain"] = self._of_pictures(captions, codes, draw)
        share = count / opt.batch_size
        total = sum(
            (value * (share if name == "plain" else 1 - share) for name, value in losses.items()), torch.zeros(())
        )
        return {"loss": total, **losses}

    def _of_pictures(self, asked: Sequence[Asked], codes: Tensor, draw: torch.Generator) -> Tensor:
        """Return the mean loss of pictures, each weighing the same whatever is masked of it."""
        size, device = codes.shape[1], self.trained.model.device
        mask = random_mask(codes.shape, draw)
        ids = self.prompting.with_images(asked, codes.masked_fill(mask, UNDECIDED)).to(device)
        allowed = omni_attention_mask(ids, self.prompting.pad_id, self.prompting.soi_id, self.prompting.eoi_id)
        attention = torch.zeros(allowed.shape, device=device).masked_fill(~allowed, -1e4)
        mask, codes = mask.to(device), codes.to(device)
        hidden = self.trunk(ids, attention)[:, -size - 1 : -1][mask]
        each = F.cross_entropy(self.trained.code_logits(hidden).float(), codes[mask], reduction="none")
        return (torch.zeros(mask.shape, device=device).masked_scatter(mask, each).sum(1) / mask.sum(1)).mean()


@dataclass(frozen=True)
class _Groups:
    """Rows of `curate corrections`, and the codes (G, N) of their images."""

    rows: Sequence[Row]
    rejected: Tensor
    accepted: Tensor

    def plain(self, count: int, draw: torch.Generator, rng: random.Random) -> tuple[list[str], Tensor]:
        """Accepted images as plain pictures of their prompts."""
        index = torch.randint(len(self.rows), (count,), generator=draw)
        return [self.rows[k]["prompt"] for k in index.tolist()], self.accepted[index]


def _read_groups(recipe: SelfCorrectionRecipe, generator: ShowoGenerator) -> _Groups:
    rows = [{**row, "name": f"the group {row['id']} of {recipe.groups}"} for row in read_corrections(recipe.groups)]
    if not rows:
        raise UsageError(f"{recipe.groups} has no groups; curate some first.")
    for row in rows:
        try:
            generator.check_prompt(" ".join(filter(None, (check_prompt(row["prompt"]), row["reasons"]))))
        except UsageError as error:
            raise UsageError(f"{row['name']}: {error}") from None
    sizes = (generator.canvas.positions, generator.canvas.codes)
    rejected, accepted = (codes_of(rows, f"{side}_codes", *sizes) for side in ("rejected", "accepted"))
    return _Groups(rows, rejected, accepted)


def _trunk(recipe: SelfCorrectionRecipe, trained: SharedBits) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what maps ids (B, L) and additive attention to states (B, L, D), in the precision of the training."""
    kind = torch.bfloat16 if recipe.optimization.bf16 else torch.float32

    def trunk(ids: Tensor, attention: Tensor) -> Tensor:
        states: Tensor = trained.model.showo.model(
            inputs_embeds=trained.embed(ids).to(kind), attention_mask=attention.to(kind), use_cache=False
        ).last_hidden_state
        return states

    return torch.compile(trunk, dynamic=True) if recipe.compile else trunk


def _text(group: Row, recipe: SelfCorrectionRecipe, rng: random.Random) -> str:
    reasons = "" if rng.random() < recipe.reasons_dropout else group["reasons"]
    return " ".join(filter(None, (group["prompt"], reasons)))
