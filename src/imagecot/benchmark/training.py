"""How many images a second training takes: the log-likelihood that alignment trains by, forwards and backwards."""

import statistics
from typing import TYPE_CHECKING

import torch

from imagecot.benchmark.result import Gradient, Training
from imagecot.benchmark.timing import in_turns
from imagecot.contracts.paths import UNDECIDED
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.scorer import Draws
from imagecot.generators.masked.masks import mask_draws

if TYPE_CHECKING:
    from imagecot.generators.showo import ShowoGenerator


def training(generator: "ShowoGenerator", prompt: str, batch: int, repeats: int, rates: dict[str, float]) -> Training:
    """Return seconds and rates of the gradient of `batch` images, in float32 and in mixed bfloat16.

    rates  GFLOP/s of a matrix product by number format

    `data` is what a step needs before the model: masks, tokenized prompts and the codes of the images, which curated
    data has ready. The optimizer's update is left out.
    """
    model, prompting, config = generator.model, generator.prompting, generator.model.config
    before = model.showo.config._attn_implementation
    generator.trainable()
    seeds, prompts = path_seeds(0, batch), [prompt] * batch
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(config.codebook_size, (batch, config.num_vq_tokens), generator=random).to(model.device)

    def masks() -> torch.Tensor:
        return mask_draws(seeds, 1, config.num_vq_tokens).to(model.device)

    def data() -> torch.Tensor:
        return prompting.with_images(prompts, codes.masked_fill(masks()[:, 0], UNDECIDED))

    def gradient(mixed: bool) -> None:
        with torch.enable_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
            (-generator.log_likelihood(prompts, codes, Draws(seeds, 1)).mean()).backward()
        model.zero_grad(set_to_none=True)

    works = {"data": data, "float32": lambda: gradient(False), "bfloat16": lambda: gradient(True)}
    took = {name: statistics.median(times) for name, times in in_turns(works, repeats).items()}
    model.showo.set_attn_implementation(before)
    flop = 3 * _forward_flop(generator, data().shape[1], float(masks().sum()) / batch) * batch
    prepared = took.pop("data")
    gradients = {}
    for name, seconds in took.items():
        rate = flop / seconds / 1e9
        gradients[name] = Gradient(seconds, batch / seconds, rate, rate / rates[name])
    return Training(batch, prepared, gradients)


def _forward_flop(generator: "ShowoGenerator", columns: int, masked: float) -> float:
    """The floating-point operations of the products of one row of `columns` tokens with `masked` scored positions."""
    config = generator.model.config
    d = config.hidden_size
    layer = 2 * columns * (4 * d * d + 2 * d * config.intermediate_size) + 4 * columns * columns * d
    return config.num_hidden_layers * layer + 2 * masked * d * config.codebook_size
