"""How many images a second training takes: the log-likelihood that alignment trains by, forwards and backwards."""

import statistics
from collections.abc import Callable

import torch

from imagecot.benchmark.result import Gradient, Training
from imagecot.benchmark.timing import FORMATS, Yardstick, in_turns, share
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.scorer import Draws, Scorer
from imagecot.generators.bench import Bench


def training(scorer: Scorer, bench: Bench, prompt: str, codes: torch.Tensor, repeats: int, by: Yardstick) -> Training:
    """Return seconds and rates of the gradient of images with codes (B, N), in float32 and in mixed bfloat16.

    `data` is what a step needs before the model: masks, tokenized prompts and the codes of the images, which curated
    data has ready. The optimizer's update is left out. Each format takes turns with a matrix product of its own.
    """
    batch, device = len(codes), codes.device.type
    seeds, prompts = path_seeds(0, batch), [prompt] * batch
    data, forward = bench.scored(prompt, codes, seeds)
    gradients: dict[str, Gradient] = {}
    with bench.training() as module:

        def gradient(mixed: bool) -> Callable[[], None]:
            def work() -> None:
                with torch.enable_grad(), torch.autocast(device, torch.bfloat16, enabled=mixed):
                    (-scorer.log_likelihood(prompts, codes, Draws(seeds, 1)).mean()).backward()
                module.zero_grad(set_to_none=True)

            return work

        prepared = statistics.median(in_turns({"": data.work}, repeats)[""])
        for name in FORMATS:
            found, rates = by.beside({name: gradient(name == "bfloat16")}, repeats, name)
            times, flop = found[name], 3 * forward  # backwards twice as much
            took = statistics.median(times)
            gradients[name] = Gradient(took, batch / took, flop / took / 1e9, share(flop, times, rates))
    return Training(batch, prepared, gradients)
