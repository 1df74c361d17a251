"""Clean scenes of the drawn world that no training sees, with their captions."""

import random
from pathlib import Path

from torch import Tensor

from imagecot.worlds.drawn.captions import caption
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.training.tokenizer import to_tensor

_SEED = 9003


def captioned_scenes(count: int, data: Path = Path("runs/data")) -> tuple[list[str], Tensor]:
    """Return captions and pictures (count, 3, 64, 64) in [0, 1]; `data` keeps the pictures that were drawn."""
    pool = Pool(data, count, _SEED)
    captions = [caption(pool[k].metadata, random.Random(k)) for k in range(count)]
    return captions, to_tensor(pool.images(range(count)))
