"""Training of an image tokenizer (MAGVIT-v2 with lookup-free quantization) on rendered scenes.

Loss: L1 and L2 of the pixels and L1 of their differences, so that edges stay sharp. The quantizer has no loss of its
own: with the bounded gradient of tanh (finite scalar quantization with two levels, Mentzer et al. 2023) all bits are
used, while LFQ's entropy terms kept bits of a small model constant from scratch (docs/experiments/tokenizer.md).
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import launch, peers
from imagecot.contracts.devices import sent
from imagecot.contracts.values import JSON
from imagecot.generators.showo.config import MagvitV2Config
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.recipe_fields import RECIPE, Count, Place, Seed, Sizes, Weight, sizes_of
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.output import digest_of, open_output
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch
from imagecot.weights import find_weights
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.scenes import SIZE

_MOST_BITS = 15  # codes are kept as int16


def _config(sizes: Sizes) -> MagvitV2Config:
    config = MagvitV2Config.from_dict(sizes)
    if config.image_size != SIZE:
        raise ValueError(f"image_size must be {SIZE}, that of the drawn world's pictures, not {config.image_size}")
    if config.code_bits > _MOST_BITS:
        raise ValueError(f"code_bits must be at most {_MOST_BITS}, as codes are kept in 16 bits")
    return config


class TokenizerRecipe(BaseModel):
    """A recipe of `imagecot train tokenizer`."""

    model_config = RECIPE

    kind: Literal["tokenizer"] = "tokenizer"
    output: Place
    report_to: ReportTo = []
    start_from: Place | None = Field(None, description="a checkpoint to fine-tune instead of starting from scratch")
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 1
    model: Annotated[Sizes, AfterValidator(sizes_of(MagvitV2Config, _config))]
    optimization: Optimization
    soft_steps: Count = 400
    edges: Weight = 0.5
    l2: Weight = 1.0


def partly_quantized(z: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Signs for a random `share` of z (B, bits, h, w), tanh(z) for the rest; the gradient is that of tanh."""
    soft = torch.tanh(z)
    hard = soft + (torch.where(z > 0, 1.0, -1.0) - soft).detach()
    chosen = sent(torch.rand(z.shape, generator=generator), z.device) < share
    return torch.where(chosen, hard, soft)


def edge_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical pixel differences of images (B, 3, H, W)."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def to_tensor(images: np.ndarray) -> Tensor:
    """Pictures (B, H, W, 3) uint8 to (B, 3, H, W) float in [0, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float().div_(255).contiguous()


class _Reconstruction(nn.Module):
    """The loss of pictures that are encoded and decoded."""

    def __init__(self, tokenizer: MagvitV2, pool: Pool, recipe: TokenizerRecipe) -> None:
        super().__init__()
        self.tokenizer, self.pool, self.recipe = tokenizer, pool, recipe

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        recipe, opt = self.recipe, self.recipe.optimization
        pictures = to_tensor(self.pool.images(batch_indices(len(self.pool), opt, part.number)))
        images = sent(pictures, next(self.tokenizer.parameters()).device) * 2 - 1
        z = self.tokenizer.encode(images)
        share = 1.0 if recipe.start_from else min(1.0, part.step / recipe.soft_steps)
        signs = partly_quantized(z, share, step_generator(opt.seed, part.number, 1))
        decoded = self.tokenizer.decode(signs).float()
        l1, l2, edges = F.l1_loss(decoded, images), F.mse_loss(decoded, images), edge_loss(decoded, images)
        total = l1 + recipe.l2 * l2 + recipe.edges * edges
        return {"loss": total, "l1": l1, "mse": l2, "edges": edges, "spread": z.float().std()}


def train_tokenizer(recipe: TokenizerRecipe, *, watch: Watch = SILENT) -> MagvitV2:
    """Train, write the averaged weights to `recipe.output` and return them; an interrupted run is resumed."""
    files: dict[str, JSON] = {"data": None}
    if recipe.start_from:
        files["start_from"] = digest_of(find_weights(recipe.start_from))
    output = open_output(recipe, files=files)
    if output.finished:
        return MagvitV2.from_pretrained(recipe.output, dtype=torch.float32)
    processes = launch.processes()
    with peers.first():
        pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
    seed_all(recipe.optimization.seed)
    if recipe.start_from is None:
        tokenizer = MagvitV2(_config(recipe.model))
    else:
        tokenizer = MagvitV2.from_pretrained(recipe.start_from, dtype=torch.float32)
    losses = _Reconstruction(tokenizer, pool, recipe)
    train_from_scratch(losses, tokenizer, recipe.optimization, output, title=recipe.kind, on_cpu=False, watch=watch)
    with peers.first():
        if processes.is_main_process:
            tokenizer.save_pretrained(recipe.output)
            output.finish()
    return tokenizer
