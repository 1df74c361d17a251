"""Training of an image tokenizer (MAGVIT-v2 with lookup-free quantization) on rendered scenes.

Loss: L1 and L2 of the pixels and L1 of their differences, so that edges stay sharp. The quantizer has no loss of its
own: with the bounded gradient of tanh (finite scalar quantization with two levels, Mentzer et al. 2023) all bits are
used, while LFQ's entropy terms kept bits of a small model constant from scratch (docs/lab-log.md).
"""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.showo.config import MagvitV2Config
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.recipe_fields import RECIPE, Count, Place, Seed, Weight, sizes_of
from imagecot.training.loop import Losses, Optimization, batch_indices, fit, step_generator
from imagecot.training.output import digest_of, open_output
from imagecot.weights import find_weights
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.scenes import SIZE

_MOST_BITS = 15  # codes are kept as int16


def _config(sizes: dict[str, Any]) -> MagvitV2Config:
    config = MagvitV2Config.from_dict(sizes)
    if config.image_size != SIZE:
        raise ValueError(f"image_size must be {SIZE}, that of the drawn world's pictures, not {config.image_size}")
    if config.code_bits > _MOST_BITS:
        raise ValueError(f"code_bits must be at most {_MOST_BITS}, as codes are kept in 16 bits")
    return config


class TokenizerRecipe(BaseModel):
    """A recipe of `imagecot train tokenizer`."""

    model_config = RECIPE

    output: Place
    start_from: Place | None = Field(None, description="a checkpoint to fine-tune instead of starting from scratch")
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 1
    model: Annotated[dict[str, Any], AfterValidator(sizes_of(MagvitV2Config, _config))]
    optimization: Optimization
    soft_steps: Count = 400
    edges: Weight = 0.5
    l2: Weight = 1.0


def partly_quantized(z: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Signs for a random `share` of z (B, bits, h, w), tanh(z) for the rest; the gradient is that of tanh."""
    soft = torch.tanh(z)
    hard = soft + (torch.where(z > 0, 1.0, -1.0) - soft).detach()
    chosen = torch.rand(z.shape, generator=generator).to(z.device) < share
    return torch.where(chosen, hard, soft)


def edge_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical pixel differences of images (B, 3, H, W)."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def to_tensor(images: "object") -> Tensor:
    """Pictures (B, H, W, 3) uint8 to (B, 3, H, W) float in [0, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float().div_(255).contiguous()


def train_tokenizer(recipe: TokenizerRecipe) -> MagvitV2:
    """Train, write the averaged weights to `recipe.output` and return them; an interrupted run is resumed."""
    opt = recipe.optimization
    files: dict[str, str | None] = {"data": None}
    if recipe.start_from:
        files["start_from"] = digest_of(find_weights(recipe.start_from))
    output = open_output(recipe.output, "tokenizer", recipe, files=files)
    if output.finished:
        return MagvitV2.from_pretrained(recipe.output, dtype=torch.float32)
    pool = Pool(recipe.data, recipe.examples, recipe.data_seed)
    torch.manual_seed(opt.seed)
    if recipe.start_from is None:
        tokenizer = MagvitV2(_config(recipe.model))
    else:
        tokenizer = MagvitV2.from_pretrained(recipe.start_from, dtype=torch.float32)

    def loss(model: nn.Module, step: int) -> Losses:
        images = to_tensor(pool.images(batch_indices(len(pool), opt, step))) * 2 - 1
        z = tokenizer.encode(images)
        share = 1.0 if recipe.start_from else min(1.0, step / recipe.soft_steps)
        decoded = tokenizer.decode(partly_quantized(z, share, step_generator(opt.seed, step, 1))).float()
        l1, l2, edges = F.l1_loss(decoded, images), F.mse_loss(decoded, images), edge_loss(decoded, images)
        total = l1 + recipe.l2 * l2 + recipe.edges * edges
        return {"loss": total, "l1": l1, "mse": l2, "edges": edges, "spread": z.float().std()}

    fit(tokenizer, loss, opt, output.prepare(), title="tokenizer", claim=output.claim)
    tokenizer.save_pretrained(recipe.output)
    output.finish()
    return tokenizer
