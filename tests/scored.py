"""Images of six prompts of the drawn world, and an evaluation of them."""

import json
import random

import torch

from imagecot.contracts.metadata import Metadata
from imagecot.worlds.drawn.scenes import compose, draw

APPLE = {"class": "apple", "count": 1, "color": "red"}
GOOD = {"tag": "colors", "include": [APPLE], "prompt": "a photo of a red apple"}
TWO = {
    "tag": "position",
    "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
    "exclude": [{"class": "cup", "count": 2}],
    "prompt": "a photo of a dog left of a cat",
}


def needing(**changes: object) -> dict:
    return {**GOOD, "include": [{**APPLE, **changes}]}


def rendered(metadata: Metadata) -> torch.Tensor:
    picture = draw(compose(metadata, random.Random(0)))
    return torch.tensor(list(picture.tobytes())).view(64, 64, 3).permute(2, 0, 1).float() / 255


def score(imagecot, *more: str, out: str = "o", detector: str = "pictograms") -> tuple[int, dict, str]:
    code, printed, err = imagecot(
        *("evaluate", "geneval", "--images", "im", "--detector", detector, "--samples", "2"),
        *("--out", out, "--json", *more),
    )
    return code, json.loads(printed) if printed.startswith("{") else {}, err
