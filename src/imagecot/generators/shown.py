"""What paths show after a step, kept as codes alone: caches, which may be large, are not needed to look at it later.

Of a generator that predicts the whole image the predicted codes are kept and decoded; of any other one the codes of the
path, which is entered again.
"""

from torch import Tensor

from imagecot import guard
from imagecot.contracts.generator import Generator, Predictor
from imagecot.contracts.paths import Paths


def kept(generator: Generator, paths: Paths) -> Tensor:
    """The codes (B, N) by which `shown` knows what paths show after their last step."""
    return guard.predicted(generator, paths) if isinstance(generator, Predictor) else paths.codes


def shown(generator: Generator, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Tensor:
    """The images (B, 3, H, W) in [0, 1] that paths of seeds (B,) showed after `step` steps.

    prompts  of the paths: one for all, or one for each
    codes    (B, N) what was `kept` of them then
    """
    if isinstance(generator, Predictor):
        return guard.decode(generator, codes.long())
    return guard.preview(generator, guard.resume(generator, prompts, seeds, codes.long(), step))
