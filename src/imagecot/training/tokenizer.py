"""Training of an image tokenizer (MAGVIT-v2 with lookup-free quantization) on rendered scenes.

Loss: L1 and L2 of the pixels and L1 of their differences, so that edges stay sharp. The quantizer has no loss of its
own: with the bounded gradient of tanh (finite scalar quantization with two levels, Mentzer et al. 2023) all bits are
used, while LFQ's entropy terms kept bits of a small model constant from scratch (docs/lab-log.md).
"""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.showo.config import MagvitV2Config
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.pictograms.dataset import Pool
from imagecot.recipes import fields_of
from imagecot.training.loop import Losses, Optimization, batch_indices, fit, step_generator


class TokenizerRecipe(BaseModel):
    """A recipe of `imagecot train tokenizer`."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    start_from: Path | None = Field(None, description="a checkpoint to fine-tune instead of starting from scratch")
    data: Path = Path("runs/data")
    examples: int = 60_000
    data_seed: int = 1
    model: Annotated[dict[str, int | tuple[int, ...]], AfterValidator(fields_of(MagvitV2Config))]
    optimization: Optimization
    soft_steps: int = 400
    edges: float = 0.5
    l2: float = 1.0


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
    pool = Pool(recipe.data, recipe.examples, recipe.data_seed)
    torch.manual_seed(opt.seed)
    if recipe.start_from is None:
        tokenizer = MagvitV2(MagvitV2Config(**recipe.model))  # type: ignore[arg-type]
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

    fit(tokenizer, loss, opt, recipe.output / "training", title="tokenizer")
    tokenizer.save_pretrained(recipe.output)
    return tokenizer
