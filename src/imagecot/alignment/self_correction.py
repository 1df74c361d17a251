"""Self-correction of a generator: draw again from prompt, reasons and the rejected image (paper, section 3.4).

Every picture is masked as in the training from scratch. Beside the correction groups plain pictures are drawn from
their captions alone, so that plain generation is not forgotten; they are the accepted images of the groups, or come
from a world that has pictures of its own.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import launch, peers
from imagecot.alignment.aligned import write_aligned
from imagecot.alignment.pair_data import codes_of
from imagecot.contracts.correction import Asked, Correction
from imagecot.contracts.paths import UNDECIDED
from imagecot.contracts.values import JSON
from imagecot.curation.corrections import read_corrections
from imagecot.curation.schema import CorrectionRow
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.generators.masked.masks import random_mask
from imagecot.generators.showo import Prompting, ShowoGenerator
from imagecot.generators.showo.model import omni_attention_mask
from imagecot.generators.showo.shared_bits import SharedBits
from imagecot.prompts import check_prompt
from imagecot.recipe_fields import RECIPE, Count, Flag, Name, Place, Seed, ShareBelowOne, Whole
from imagecot.training.loop import Part
from imagecot.training.lora import Lora, add_adapter
from imagecot.training.optimization import Optimization, step_generator
from imagecot.training.output import Output, open_output, shards_of
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch

# Captions (B,) and codes (B, N) of plain pictures, for a draw of random numbers and for captions.
Plain = Callable[[int, torch.Generator, random.Random], tuple[list[str], Tensor]]


class PlainPool(BaseModel):
    """Which pictures of the drawn world are the plain ones."""

    model_config = RECIPE

    data: Place = Path("runs/data")
    examples: Count = 100_000
    seed: Seed = 1


# Finds such pictures for a generator by a recipe; what is computed once is kept in the folder.
Pictures = Callable[[ShowoGenerator, PlainPool, Path, Watch], Plain]
Score = Callable[[ShowoGenerator, int], dict[str, float]]


class SelfCorrectionRecipe(BaseModel):
    """A recipe of `imagecot train self-correction`: of all weights, or with `lora` of an adapter on `base`."""

    model_config = RECIPE

    kind: Literal["self-correction"] = "self-correction"
    output: Place
    report_to: ReportTo = []
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
    recipe: SelfCorrectionRecipe,
    pictures: Pictures | None = None,
    score: Score | None = None,
    *,
    watch: Watch = SILENT,
) -> ShowoGenerator:
    """Train, and write the averaged generator to `recipe.output`; an interrupted run is resumed.

    pictures  finds the plain pictures of a recipe that asks for some
    score     scores a generator on so many prompts of each task, where a recipe asks for it

    UsageError for a generator that is no Show-o, or where what the recipe asks for is not given.
    """
    if (recipe.plain and pictures is None) or (recipe.prompts_per_task and score is None):
        raise UsageError("plain and prompts_per_task are of a world; leave out plain and set prompts_per_task=0.")
    output = _output(recipe)
    if output.finished:
        return _load(recipe, recipe.output)
    processes = launch.processes()
    generator = _load(recipe, recipe.base, processes.device)
    model = generator.model
    groups = _read_groups(recipe, generator)
    plain: Plain = groups.plain
    if pictures and recipe.plain:
        with peers.first():
            plain = pictures(generator, recipe.plain, output.prepare(), watch)
    model.requires_grad_(True)
    seed_all(recipe.optimization.seed)
    adapter = add_adapter(model, recipe.lora, recipe.base, generator.adapted_layers) if recipe.lora else None
    trained = _shared_bits(generator, frozen=adapter is not None)

    def scores() -> Mapping[str, float]:
        if not recipe.prompts_per_task or score is None:
            return {}
        return score(replace(generator, model=trained.folded()), recipe.prompts_per_task)

    correcting = _Correcting(recipe, generator.prompting, trained, groups, plain)
    train_from_scratch(
        correcting,
        trained,
        recipe.optimization,
        output,
        title=recipe.kind,
        score=scores,
        on_cpu=False,
        watch=watch,
    )
    result = replace(generator, model=model.eval() if adapter else trained.folded())
    with peers.first():
        if processes.is_main_process:
            write_aligned(result, adapter, recipe.base, recipe.output, "training of self-correction", recipe)
            output.finish()
    return result


def _output(recipe: SelfCorrectionRecipe) -> Output:
    """The folder of a recipe, looked at before a model is loaded; so are its data."""
    files: dict[str, JSON] = {"groups": shards_of(recipe.groups), "plain.data": None}
    return open_output(recipe, models={"base": ("generator", recipe.base)}, files=files)


def _load(recipe: SelfCorrectionRecipe, name: str | Path, device: torch.device | None = None) -> ShowoGenerator:
    """Load a Show-o in float32; UsageError for any other generator."""
    generator = load_generator(name, device=device, dtype=torch.float32)
    if not isinstance(generator, ShowoGenerator):
        raise UsageError(f"{recipe.base} is no Show-o; self-correction knows this architecture only.")
    return generator


def _shared_bits(generator: ShowoGenerator, *, frozen: bool) -> SharedBits:
    """The weights with a part per bit beside them, which an adapter leaves as it is (`frozen`)."""
    model = generator.model
    trained = SharedBits(model, generator.image_tokenizer.quantize.embedding).to(model.device)
    nn.init.zeros_(trained.embedding)  # what is loaded holds the parts per bit already
    for part in (trained.embedding, trained.head):
        part.requires_grad_(not frozen)
    model.showo.model.fused = False  # as in the training from scratch
    return trained


class _Correcting(nn.Module):
    """The loss of correction groups and of plain pictures, each in its share of the batch."""

    def __init__(
        self,
        recipe: SelfCorrectionRecipe,
        prompting: Prompting,
        trained: SharedBits,
        groups: "_Groups",
        plain: Plain,
    ) -> None:
        super().__init__()
        self.recipe, self.prompting, self.trained, self.groups, self.plain = recipe, prompting, trained, groups, plain
        self.kind = torch.bfloat16 if recipe.optimization.bf16 else torch.float32
        self.trunk = torch.compile(self._trunk, dynamic=True) if recipe.compile else self._trunk

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        recipe, opt = self.recipe, self.recipe.optimization
        draw, rng = step_generator(opt.seed, part.number, 1), random.Random(f"{opt.seed}:{part.number}")
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

    def _trunk(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Map ids (B, L) and additive attention to states (B, L, D), in the precision of the training."""
        states: Tensor = self.trained.model.showo.model(
            inputs_embeds=self.trained.embed(ids).to(self.kind),
            attention_mask=attention.to(self.kind),
        )
        return states


@dataclass(frozen=True)
class _Groups:
    """Rows of `curate corrections`, and the codes (G, N) of their images."""

    rows: Sequence[CorrectionRow]
    rejected: Tensor
    accepted: Tensor

    def plain(self, count: int, draw: torch.Generator, rng: random.Random) -> tuple[list[str], Tensor]:
        """Accepted images as plain pictures of their prompts."""
        index = torch.randint(len(self.rows), (count,), generator=draw)
        return [self.rows[k].prompt for k in index.tolist()], self.accepted[index]


def _read_groups(recipe: SelfCorrectionRecipe, generator: ShowoGenerator) -> _Groups:
    rows = list(read_corrections(recipe.groups))
    if not rows:
        raise UsageError(f"{recipe.groups} has no groups; curate some first.")
    names = [f"the group {row.id} of {recipe.groups}" for row in rows]
    for name, row in zip(names, rows, strict=True):
        try:
            generator.check_prompt(" ".join(filter(None, (check_prompt(row.prompt), row.reasons))))
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
    sizes = (generator.canvas.positions, generator.canvas.codes)
    one, other = [row.rejected_codes for row in rows], [row.accepted_codes for row in rows]
    rejected = codes_of(list(zip(names, one, strict=True)), "rejected_codes", *sizes)
    accepted = codes_of(list(zip(names, other, strict=True)), "accepted_codes", *sizes)
    return _Groups(rows, rejected, accepted)


def _text(group: CorrectionRow, recipe: SelfCorrectionRecipe, rng: random.Random) -> str:
    reasons = "" if rng.random() < recipe.reasons_dropout else group.reasons
    return " ".join(filter(None, (group.prompt, reasons)))
