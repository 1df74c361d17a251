"""Side effects of an alignment, by hand."""

import pytest
import torch

from imagecot.alignment import side_effects
from imagecot.alignment.side_effects import measure, variety
from plain_decoder import tiny_generator


class Grey:
    """A generator whose two images are all 0 and all 1, then half as far apart."""

    def __init__(self, levels: list[float]) -> None:
        self.levels = levels

    def check_prompt(self, prompt: str) -> None:
        """Reads all of them."""

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
    found = measure("tiny", scenes=4, draws=1, per_task=1, paths=2, data=tmp_path)
    assert set(found) == {"clean", "clean_se", "variety", "variety_se"}
    assert -5 < found["clean"] < 0  # chance is log(1 / 4096) = -8.3
    assert 0 < found["variety"] < 0.5
    assert side_effects.measure("tiny", scenes=4, draws=1, per_task=1, paths=2, data=tmp_path) == found
