"""Training of the pictogram detector on rendered scenes, roughened so that it also reads generated pictures.

Roughening cannot tell what one who looks still takes for a cup. Where there are annotated pictures of a generator,
every other picture is one of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import launch, peers, registry
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.generators.showo import MagvitV2
from imagecot.geneval.prompts import COLORS
from imagecot.recipe_fields import RECIPE, Count, Name, Place, Positive, Real, Seed
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.output import Output, digest_of, open_output
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch
from imagecot.weights import find_weights
from imagecot.worlds.drawn.annotated import AnnotatedPicture, Seen, read_annotations
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.detector import GRID, STRIDE, PictogramDetector, Trunk
from imagecot.worlds.drawn.scenes import KINDS
from imagecot.worlds.drawn.training.detector_pictures import (
    choose_patches,
    look_at,
    roughen,
    scramble,
    scramble_codes,
    whole_enough,
)
from imagecot.worlds.drawn.training.generator import encode_pool
from imagecot.worlds.drawn.training.tokenizer import to_tensor


class DetectorRecipe(BaseModel):
    """A recipe of `imagecot train detector`.

    tokenizer  decodes the codes of every other picture: of scenes, or of those in `annotated`, a file of
               `imagecot.worlds.drawn.annotated`
    centre_weight  of a cell where an object's centre is, beside 1 of those where none is: above 1 it is learned faster,
               at 1 a score is how likely it is that someone sees the object
    scale, shift   of the logits of kinds once trained: GenEval's thresholds, .3 and .9 where objects are counted, are
               those of a detector that is surer than likelihoods are; above 1 both come nearer to one half
    """

    model_config = RECIPE

    kind: Literal["detector"] = "detector"
    output: Place
    report_to: ReportTo = []
    data: Place = Path("runs/data")
    examples: Count = 40_000
    data_seed: Seed = 3
    test_examples: Count = 2_000
    test_seed: Seed = 9_003
    start_from: Place | None = None
    tokenizer: Name | None = None
    annotated: Place | None = None
    centre_weight: Positive = 4.0
    scale: Positive = 1.0
    shift: Real = 0.0
    width: Annotated[int, Field(strict=True, ge=8, le=4096, multiple_of=8)] = 64
    trunk: Trunk = "convolutional"
    optimization: Optimization

    @model_validator(mode="after")
    def _decodable(self) -> Self:
        if self.annotated and not self.tokenizer:
            raise ValueError("annotated pictures are stored as codes; name the tokenizer that decodes them")
        return self


def targets(
    pictures: Sequence[Sequence[Seen]], centre_weight: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the network shall say of pictures with these objects.

    Centre maps and their weights (B, 12, 16, 16), boxes (B, 4, 16, 16), colours (B, 16, 16) or -1 where none is asked
    for, and where the centres are (B, 16, 16) bool. Cells beside a centre weigh nothing for its kind: either cell may
    claim an object between two. An object of which nobody knows whether it is there may be found or not.
    """
    b = len(pictures)
    heat, weight = torch.zeros(b, len(KINDS), GRID, GRID), torch.ones(b, len(KINDS), GRID, GRID)
    box, color = torch.zeros(b, 4, GRID, GRID), torch.full((b, GRID, GRID), -1)
    for k, objects in enumerate(pictures):
        for seen in objects:
            x0, y0, x1, y1 = seen.box
            cx, cy = (x0 + x1) / 2 / STRIDE, (y0 + y1) / 2 / STRIDE
            x, y, kind = min(max(int(cx), 0), GRID - 1), min(max(int(cy), 0), GRID - 1), KINDS.index(seen.kind)
            weight[k, kind, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 0
            if not seen.sure:
                continue
            heat[k, kind, y, x] = 1
            box[k, :, y, x] = torch.tensor([cx - x, cy - y, (x1 - x0) / STRIDE, (y1 - y0) / STRIDE])
            if seen.color:
                color[k, y, x] = COLORS.index(seen.color)
    weight[heat == 1] = centre_weight
    return heat, weight, box, color, heat.any(1)


def detector_loss(
    model: nn.Module, images: Tensor, pictures: Sequence[Sequence[Seen]], centre_weight: float = 1.0
) -> Losses:
    """Weighted cross-entropy of the centre maps, L1 of the boxes, cross-entropy of the colours at centres."""
    heat, weight, box, color, centre = targets(pictures, centre_weight)
    kinds, boxes, colors = (out.float() for out in model(images))
    found = (F.binary_cross_entropy_with_logits(kinds, heat, reduction="none") * weight).sum() / centre.sum()
    place = (boxes - box).abs().sum(1)[centre].mean()
    tinted = color >= 0
    tint = F.cross_entropy(colors.permute(0, 2, 3, 1)[tinted], color[tinted])
    return {"loss": found + 0.2 * place + 0.5 * tint, "centres": found, "boxes": place, "colours": tint}


@torch.no_grad()
def sharpen(model: PictogramDetector, scale: float, shift: float) -> None:
    """Make the logits of kinds `scale` times what they are, plus `shift`; boxes and colours stay."""
    kinds = len(KINDS)
    model.head.weight[:kinds] *= scale
    assert model.head.bias is not None
    model.head.bias[:kinds] = model.head.bias[:kinds] * scale + shift


def accuracy(model: PictogramDetector, pool: Pool, batch: int = 100) -> float:
    """Share of rendered scenes that are judged right for their own requirement."""
    right = 0
    for start in range(0, len(pool), batch):
        indices = range(start, min(start + batch, len(pool)))
        verdicts = model.judge(to_tensor(pool.images(indices)), [pool[i].metadata for i in indices])
        right += sum(v.correct for v in verdicts)
    return right / len(pool)


@dataclass(frozen=True)
class _Scenes:
    """What a training shows: scenes, and every other picture as a tokenizer decodes it.

    tokenizer  of the pictures that are decoded, if any are
    codes      of the pool's pictures, where there are no annotated ones
    """

    recipe: DetectorRecipe
    pool: Pool
    annotated: Sequence[AnnotatedPicture]
    tokenizer: MagvitV2 | None
    codes: Tensor

    def at(self, part: Part) -> tuple[Tensor, list[list[Seen]]]:
        """Pictures (B, 3, 64, 64) of a part, roughened, and what stands on them."""
        opt = self.recipe.optimization
        indices = batch_indices(len(self.pool), opt, part.number)
        draw = step_generator(opt.seed, part.number, 1)
        examples = [self.pool[i] for i in indices]
        taken, lost = choose_patches(examples, draw)
        images = scramble(to_tensor(self.pool.images(indices)), taken, draw)
        objects = [whole_enough(*scene) for scene in zip(examples, lost, strict=True)]
        if self.tokenizer is not None and self.annotated:
            picked = torch.randint(len(self.annotated), (len(images[::2]),), generator=draw).tolist()
            images[::2], objects[::2] = look_at(self.tokenizer, [self.annotated[k] for k in picked], draw)
        elif self.tokenizer is not None:
            # Every other picture as the image tokenizer shows it, for that is how generated ones look.
            with torch.no_grad():
                codes = scramble_codes(self.codes[indices[::2]].long(), taken[::2], draw)
                images[::2] = self.tokenizer.decode_codes(codes).to(images.dtype)
        return roughen(images, draw), objects


class _Detection(nn.Module):
    """The loss of a detector on scenes."""

    def __init__(self, model: PictogramDetector, scenes: _Scenes) -> None:
        super().__init__()
        self.model, self.scenes = model, scenes

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        images, objects = self.scenes.at(part)
        return detector_loss(self.model, images, objects, self.scenes.recipe.centre_weight)


def train_detector(recipe: DetectorRecipe, *, watch: Watch = SILENT) -> PictogramDetector:
    """Train from scratch and write the averaged weights to `recipe.output`; an interrupted run is resumed."""
    annotated = read_annotations(recipe.annotated) if recipe.annotated else []
    output = _output(recipe)
    if output.finished:
        return PictogramDetector.from_pretrained(recipe.output)
    processes = launch.processes(on_cpu=True)
    with peers.first():
        scenes = _scenes(recipe, annotated, output, watch)
        held_out = Pool(recipe.data, recipe.test_examples, recipe.test_seed, watch=watch)
    seed_all(recipe.optimization.seed)
    model = PictogramDetector(recipe.width, recipe.trunk)
    if recipe.start_from:
        model = PictogramDetector.from_pretrained(recipe.start_from)
    train_from_scratch(
        _Detection(model, scenes),
        model,
        recipe.optimization,
        output,
        title=recipe.kind,
        score=lambda: {"scenes": accuracy(model, held_out)},
        watch=watch,
    )
    sharpen(model, recipe.scale, recipe.shift)
    with peers.first():
        if processes.is_main_process:
            model.save_pretrained(recipe.output)
            output.finish()
    return model


def _scenes(recipe: DetectorRecipe, annotated: Sequence[AnnotatedPicture], output: Output, watch: Watch) -> _Scenes:
    """What a recipe trains on; UsageError for annotated pictures of another tokenizer."""
    pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
    tokenizer, codes = None, torch.empty(0)
    if recipe.tokenizer:
        tokenizer = MagvitV2.from_pretrained(registry.folder_of("generator", recipe.tokenizer), dtype=torch.float32)
        _check_annotated(annotated, tokenizer, recipe)
        if not annotated:
            codes = encode_pool(tokenizer, pool, output.prepare(), watch=watch)
    return _Scenes(recipe, pool, annotated, tokenizer, codes)


def _output(recipe: DetectorRecipe) -> Output:
    files: dict[str, JSON] = {"data": None}
    if recipe.start_from:
        files["start_from"] = digest_of(find_weights(recipe.start_from))
    if recipe.annotated:
        files["annotated"] = digest_of([recipe.annotated])
    models = {"tokenizer": ("image_tokenizer", recipe.tokenizer)} if recipe.tokenizer else {}
    return open_output(recipe, models=models, files=files)


def _check_annotated(pictures: Sequence[AnnotatedPicture], tokenizer: MagvitV2, recipe: DetectorRecipe) -> None:
    """Raise UsageError for the first picture whose codes are not those of the image tokenizer."""
    size = tokenizer.config
    for number, picture in enumerate(pictures, 1):
        fits = len(picture.codes) == size.num_codes and all(0 <= code < size.codebook_size for code in picture.codes)
        if not fits:
            raise UsageError(
                f"picture {number} of {recipe.annotated} does not have the {size.num_codes} codes, 0 to "
                f"{size.codebook_size - 1}, of {recipe.tokenizer}; name the tokenizer it was annotated with."
            )
