"""Training of Janus's image tokenizer (`JanusVQVAE`) on rendered scenes.

Its codebook holds all corners of a cube, at length 1: a code is the signs of `embed_dim` numbers (lookup-free
quantization as of MAGVIT-v2), so no code can die, the nearest code is the same with and without normalisation, and
codes that differ in one sign look alike, which the generator's embeddings and head start from.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from transformers import JanusVQVAE, JanusVQVAEConfig

from imagecot import launch, peers
from imagecot.checkpoint import read_config
from imagecot.contracts.devices import sent
from imagecot.contracts.values import JSON
from imagecot.errors import first_line
from imagecot.foreign import foreign
from imagecot.recipe_fields import RECIPE, Count, Few, Place, Seed, Weight
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.output import digest_of, open_output
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch
from imagecot.weights import find_weights, load_into, load_state_dict, save_checkpoint
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.scenes import SIZE, Scene
from imagecot.worlds.drawn.training.tokenizer import edge_loss, partly_quantized, to_tensor

_MOST_BITS = 15  # codes are kept as int16
_MARGIN = 2  # pixels around an object that count as it


class ImageTokenizerSizes(BaseModel):
    """Sizes of a `JanusVQVAE` of pictures of the drawn world."""

    model_config = RECIPE

    embed_dim: Few = 11
    latent_channels: Count = 64
    base_channels: Count = 32
    channel_multiplier: Annotated[list[Few], Field(min_length=1, max_length=6)] = [1, 1, 2, 2]
    num_res_blocks: Few = 1

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        if self.embed_dim > _MOST_BITS:
            raise ValueError(f"embed_dim must be at most {_MOST_BITS}, as codes are kept in 16 bits")
        if self.side < 1:
            raise ValueError(f"{len(self.channel_multiplier)} levels leave nothing of {SIZE} pixels")
        try:
            with torch.device("meta"):
                JanusVQVAE(self.config())
        except Exception as error:  # a model of impossible sizes raises whatever its layers raise
            raise ValueError(f"no image tokenizer has these sizes ({first_line(error)})") from None
        return self

    @property
    def side(self) -> int:
        """Codes along a side of a picture."""
        return SIZE // 2 ** (len(self.channel_multiplier) - 1)

    def config(self) -> JanusVQVAEConfig:
        """The configuration of the model."""
        return JanusVQVAEConfig(**self.model_dump(), num_embeddings=2**self.embed_dim, num_patches=self.side)


class JanusTokenizerRecipe(BaseModel):
    """A recipe of `imagecot train janus-tokenizer`."""

    model_config = RECIPE

    kind: Literal["janus-tokenizer"] = "janus-tokenizer"
    output: Place
    report_to: ReportTo = []
    start_from: Place | None = Field(None, description="a checkpoint to train on instead of starting from scratch")
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 1
    model: ImageTokenizerSizes = ImageTokenizerSizes()
    optimization: Optimization
    soft_steps: Count = 200
    edges: Weight = 0.5
    l2: Weight = 1.0
    objects: Weight = Field(3.0, description="how much more a pixel of an object weighs than one of the background")


def corners(bits: int) -> Tensor:
    """The codebook (2^bits, bits): row k holds the signs of the bits of k, at length 1."""
    signs = (torch.arange(2**bits)[:, None] >> torch.arange(bits)) & 1
    return (signs * 2 - 1).float() / bits**0.5


def new_image_tokenizer(sizes: ImageTokenizerSizes) -> JanusVQVAE:
    """A tokenizer of random weights, but for its codebook, which is not trained."""
    model = JanusVQVAE(sizes.config())
    model.quantize.embedding.weight.data = corners(sizes.embed_dim)
    model.quantize.requires_grad_(False)
    return model


def load_image_tokenizer(folder: Path) -> JanusVQVAE:
    """Read what `train_janus_tokenizer` wrote, in float32; ImagecotError where it is damaged."""
    with foreign(f"the image tokenizer in {folder} cannot be made"):
        model = JanusVQVAE(JanusVQVAEConfig.from_dict(read_config(folder)))
    load_into(model, load_state_dict(folder, None, torch.float32), folder)
    model.quantize.requires_grad_(False)
    return model.eval()


def latents(model: JanusVQVAE, pixels: Tensor) -> Tensor:
    """What is quantized (B, bits, h, w) of pictures (B, 3, H, W) in [-1, 1]."""
    found: Tensor = model.quant_conv(model.encoder(pixels))
    return found


def codes_of(model: JanusVQVAE, pixels: Tensor) -> Tensor:
    """Codes (B, N) int64 of pictures (B, 3, H, W) in [-1, 1]: the corners that their latents are next to."""
    signs = latents(model, pixels).flatten(2).transpose(1, 2) > 0
    return (signs.long() << torch.arange(signs.shape[-1], device=signs.device)).sum(-1)


def object_weights(scenes: list[Scene], extra: float) -> Tensor:
    """Weights (B, 1, S, S), 1 + extra on objects' boxes and 1 elsewhere, divided by their mean over a picture."""
    weights = torch.ones(len(scenes), 1, SIZE, SIZE)
    for weight, scene in zip(weights, scenes, strict=True):
        for box in scene.boxes:
            x0, y0, x1, y1 = (max(0, round(v)) for v in box)
            weight[0, max(0, y0 - _MARGIN) : y1 + _MARGIN, max(0, x0 - _MARGIN) : x1 + _MARGIN] = 1 + extra
    return weights / weights.mean((1, 2, 3), keepdim=True)


class _Reconstruction(nn.Module):
    """The loss of pictures that are encoded and decoded."""

    def __init__(self, model: JanusVQVAE, pool: Pool, recipe: JanusTokenizerRecipe) -> None:
        super().__init__()
        self.model, self.pool, self.recipe = model, pool, recipe

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        recipe, opt = self.recipe, self.recipe.optimization
        indices = batch_indices(len(self.pool), opt, part.number)
        device = next(self.model.parameters()).device
        images = sent(to_tensor(self.pool.images(indices)), device) * 2 - 1
        weights = sent(object_weights([self.pool[i].scene for i in indices], recipe.objects), device)
        z = latents(self.model, images)
        share = 1.0 if recipe.start_from else min(1.0, part.step / recipe.soft_steps)
        signs = partly_quantized(z, share, step_generator(opt.seed, part.number, 1)) / z.shape[1] ** 0.5
        decoded = self.model.decoder(self.model.post_quant_conv(signs)).float()
        away = (decoded - images) * weights.sqrt()
        l1, l2 = ((decoded - images).abs() * weights).mean(), away.square().mean()
        edges = edge_loss(decoded, images)
        total = l1 + recipe.l2 * l2 + recipe.edges * edges
        return {"loss": total, "l1": l1, "mse": l2, "edges": edges, "spread": z.float().std()}


def train_janus_tokenizer(recipe: JanusTokenizerRecipe, *, watch: Watch = SILENT) -> JanusVQVAE:
    """Train, write the averaged weights to `recipe.output` and return them; an interrupted run is resumed."""
    files: dict[str, JSON] = {"data": None}
    if recipe.start_from:
        files["start_from"] = digest_of(find_weights(recipe.start_from))
    output = open_output(recipe, files=files)
    if output.finished:
        return load_image_tokenizer(recipe.output)
    processes = launch.processes()
    with peers.first():
        pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
    seed_all(recipe.optimization.seed)
    start = recipe.start_from
    model = load_image_tokenizer(start) if start else new_image_tokenizer(recipe.model)
    losses = _Reconstruction(model, pool, recipe)
    train_from_scratch(losses, model, recipe.optimization, output, title=recipe.kind, on_cpu=False, watch=watch)
    with peers.first():
        if processes.is_main_process:
            save_checkpoint(recipe.output, model.config.to_dict(), model.state_dict())
            output.finish()
    return model.eval()
