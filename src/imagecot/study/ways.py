"""What a generator can be told of an image that it draws again: everything, and controls that leave something out."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.metadata import Metadata
from imagecot.reflection.discrepancies import from_reason, to_text


@dataclass(frozen=True, eq=False)
class Rejected:
    """A rejected image and what may be said of it; what takes a model to know is asked for when it is told.

    codes    (N,) of the image
    reasons  what the verifier finds wrong with it
    scorer   what the scorer sees wrong, in words: with these the verifier's part plays no role
    written  what the verifier writes, whether or not the prompt can be examined part by part
    other    another prompt's reasons
    """

    codes: Tensor
    reasons: str
    scorer: Callable[[], str]
    written: Callable[[], str]
    other: str


Way = Callable[[Rejected], Correction]


def everything(image: Rejected) -> Correction:
    """The image and the reasons."""
    return Correction(image.codes, image.reasons)


CONTROLS: Mapping[str, Way] = {
    "without_reasons": lambda image: Correction(image.codes),
    "shuffled_reasons": lambda image: Correction(image.codes, image.other),
    "without_image": lambda image: Correction(None, image.reasons),
    "prompt_alone": lambda image: Correction(None),
    "written_reasons": lambda image: Correction(image.codes, image.written()),
    "scorer_reasons": lambda image: Correction(image.codes, image.scorer()),
}


def in_words(metadata: Metadata, reason: str, seed: int) -> str:
    """The scorer's reason as sentences, in a wording that the seed chooses."""
    return to_text(from_reason(metadata, reason), random.Random(seed))
