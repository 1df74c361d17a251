"""Side effects of an alignment, by hand."""

import pytest
import torch

from imagecot.alignment.side_effects import measure, variety
from imagecot.worlds.drawn.captions import held_out_prompts
from imagecot.worlds.drawn.clean import captioned_scenes
from plain_decoder import tiny_generator


class Grey:
    """A generator whose two images are all 0 and all 1, then half as far apart."""

    def __init__(self, levels: list[float]) -> None:
        self.levels = levels

    def start(self, prompts, seeds):
        return tiny_generator(steps=2).start(prompts, seeds)

    def advance(self, paths):
        return tiny_generator(steps=2).advance(paths)

    def preview(self, paths):
        return torch.tensor(self.levels)[:, None, None, None].expand(-1, 3, 4, 4)


@pytest.mark.parametrize(("levels", "expected"), [([0.0, 1.0], 1.0), ([0.25, 0.75], 0.5), ([0.3, 0.3], 0.0)])
def test_variety_by_hand(levels, expected):
    assert variety(Grey(levels), "a photo of a cat", 2, 0) == pytest.approx(expected)


def test_the_shipped_generator_knows_clean_scenes(tmp_path):
    captions, images = captioned_scenes(4, tmp_path)
    assert len(captions) == len(images) == 4
    prompts = [metadata.prompt for metadata in held_out_prompts(1)]
    found = measure("tiny", captions, images, prompts, draws=1, paths=2)
    assert set(found) == {"clean", "clean_se", "variety", "variety_se"}
    assert -5 < found["clean"] < 0  # chance is log(1 / 4096) = -8.3
    assert 0 < found["variety"] < 0.5
    assert measure("tiny", captions, images, prompts, draws=1, paths=2) == found
