"""Training of an image tokenizer (MAGVIT-v2 with lookup-free quantization) on rendered scenes.

Loss: L1 and L2 of the pixels, L1 of their differences (edges stay sharp), LFQ's commitment, and LFQ's entropy
in its factorised form, bit by bit: each code is decided, all codes are used (Yu et al. 2023, section 3.1).
"""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.showo.config import MagvitV2Config
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.pictograms.dataset import Pool
from imagecot.training.loop import Losses, Optimization, batch_indices, fit


class TokenizerRecipe(BaseModel):
    """A recipe of `imagecot train tokenizer`."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    data: Path = Path("runs/data")
    examples: int = 60_000
    data_seed: int = 1
    model: dict[str, int | tuple[int, ...]]
    optimization: Optimization
    commitment: float = 0.05
    entropy: float = 0.05
    edges: float = 0.5
    l2: float = 1.0


def binary_entropy(p: Tensor) -> Tensor:
    """Entropy in nats of Bernoulli(p)."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def quantizer_losses(z: Tensor) -> tuple[Tensor, Tensor]:
    """Commitment mean((z - sign z)²) and entropy E[H(p)] - H(E[p]) per bit, with p = sigmoid(4 z), of z (B, bits, h, w)."""
    z = z.float()
    commitment = (z - torch.where(z > 0, 1.0, -1.0)).square().mean()
    p = torch.sigmoid(4 * z)
    entropy = binary_entropy(p).mean() - binary_entropy(p.mean((0, 2, 3))).mean()
    return commitment, entropy


def edge_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical pixel differences of images (B, 3, H, W)."""
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def to_tensor(images: "object") -> Tensor:
    """Pictures (B, H, W, 3) uint8 to (B, 3, H, W) float in [0, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float().div_(255)


def train_tokenizer(recipe: TokenizerRecipe) -> MagvitV2:
    """Train from scratch and write the averaged weights to `recipe.output`; an interrupted run is resumed."""
    opt = recipe.optimization
    pool = Pool(recipe.data, recipe.examples, recipe.data_seed)
    torch.manual_seed(opt.seed)
    tokenizer = MagvitV2(MagvitV2Config(**recipe.model))  # type: ignore[arg-type]
    forward = torch.compile(tokenizer) if opt.compile else tokenizer

    def loss(model: nn.Module, step: int) -> Losses:
        images = to_tensor(pool.images(batch_indices(len(pool), opt, step))) * 2 - 1
        decoded, z = forward(images)
        decoded = decoded.float()
        l1, l2, edges = F.l1_loss(decoded, images), F.mse_loss(decoded, images), edge_loss(decoded, images)
        commitment, entropy = quantizer_losses(z)
        total = l1 + recipe.l2 * l2 + recipe.edges * edges + recipe.commitment * commitment + recipe.entropy * entropy
        return {"loss": total, "l1": l1, "mse": l2, "edges": edges, "commitment": commitment, "entropy": entropy}

    fit(tokenizer, loss, opt, recipe.output / "training", title="tokenizer")
    tokenizer.save_pretrained(recipe.output)
    return tokenizer
