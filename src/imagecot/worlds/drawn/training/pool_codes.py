"""The codes of all pictures of a pool, computed once for a training and kept."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from imagecot.precision import has_bfloat16
from imagecot.training.parts import check_codes, digest, fingerprint, in_parts
from imagecot.watch import Watch
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.training.tokenizer import to_tensor

_A_PART = 200  # pictures


@torch.no_grad()
def pool_codes(
    tokenizer: nn.Module,
    encode: Callable[[Tensor], Tensor],
    shape: tuple[int, int],
    pool: Pool,
    cache: Path,
    *,
    watch: Watch,
) -> Tensor:
    """Return codes (len(pool), N) int16; what was computed is kept in `cache`, by tokenizer and pool.

    encode  maps pictures (B, 3, H, W) in [0, 1] to codes (B, N)
    shape   codes of a picture, and how many codes there are

    ImagecotError where what was kept is damaged.
    """

    def compute(first: int, last: int) -> Tensor:
        images = to_tensor(pool.images(range(first, last)))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=has_bfloat16()):
            return encode(images).to(torch.int16)

    folder = cache / f"codes-{digest(fingerprint(tokenizer), pool.folder.name, str(len(pool)))}"
    codes = in_parts(folder, len(pool), compute, "encoding pictures", size=_A_PART, watch=watch)
    check_codes(codes, *shape, folder)
    return codes
