"""What paths showed after a step, seen again later from their codes alone."""

import pytest
import torch

from imagecot.contracts.generator import Predictor
from imagecot.generators.shown import kept, shown
from plain_decoder import tiny_generator
from toy_raster import ToyRaster

torch.set_num_threads(1)
PROMPTS = ["a red cup", "two dogs", "a red cup"]


@pytest.mark.parametrize("make", [lambda: tiny_generator(steps=3), ToyRaster], ids=["predicts", "enters again"])
def test_every_step_is_seen_again(make):
    generator, seeds = make(), torch.tensor([5, 6, 7])
    assert isinstance(generator, Predictor) is not isinstance(generator, ToyRaster)
    paths, seen = generator.start(PROMPTS, seeds), []
    while not paths.finished:
        paths = generator.advance(paths)
        seen.append((kept(generator, paths).to(torch.int32), paths.step, generator.preview(paths)))
    for codes, step, images in seen:
        rows = torch.tensor([2, 0])
        again = shown(generator, [PROMPTS[k] for k in rows], seeds[rows], codes[rows], step)
        torch.testing.assert_close(again, images[rows])
    assert not torch.equal(seen[0][2], seen[-1][2])
