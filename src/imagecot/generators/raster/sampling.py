"""How a code is drawn from logits: guidance, temperature, top-k, top-p, and one uniform number of the path.

The order and the edges are those of LlamaGen's sampler (Sun et al., 2024); Janus draws by guidance and temperature
alone (Wu et al., 2024).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagecot.errors import UsageError
from imagecot.generators.masked.step import draw_by_inverse

MOST = 1e6  # of guidance and temperature; a larger number in a file is none
FILLS = ("blank", "repeat", "draft")


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn.

    guidance_scale  g: guided = unconditional + g * (conditional - unconditional); 1 is none, and then no unconditional
                    rows are computed
    temperature     logits are divided by it; 0 takes the code of the largest logit
    top_k           codes with logits below the k-th largest are never drawn, ties with it are; 0 is off
    top_p           of the codes in the order of falling probability those are never drawn before which the others
                    already sum up to more than top_p; 1 is off
    guided_codes    how many codes of an image, from the first, are drawn with guidance; None for all

    UsageError for a value that nothing can be drawn with.
    """

    guidance_scale: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guided_codes: int | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("guidance_scale", self.guidance_scale, 1, MOST),
            ("temperature", self.temperature, 0, MOST),
            ("top_p", self.top_p, 0, 1),
        ):
            if type(value) not in (int, float) or not low <= value <= high:
                raise UsageError(f"{name} must be a number from {low} to {high:g}, not {value!r}.")
        for name, number in (("top_k", self.top_k), ("guided_codes", self.guided_codes or 0)):
            if type(number) is not int or number < 0:
                raise UsageError(f"{name} must be a whole number, at least 0, not {number!r}.")

    def guides(self, position: int) -> bool:
        """Whether the code at a position of the image is drawn with guidance."""
        within = self.guided_codes is None or position < self.guided_codes
        return self.guidance_scale != 1 and within


def check_fill(fill: object) -> None:
    """Raise UsageError for a fill that is none of FILLS."""
    if fill not in FILLS:
        raise UsageError(f"there is no fill {fill!r}; choose one of {', '.join(FILLS)}.")


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Return the guided logits of float32 logits of one shape."""
    return unconditional + scale * (conditional - unconditional)


def draw(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Return codes (B,) int64 of guided float32 logits (B, codes), by uniforms (B,) in [0, 1) and the inverse CDF."""
    if not sampling.temperature:
        return logits.argmax(1)
    return draw_by_inverse(filtered(logits / sampling.temperature, sampling).softmax(1), uniform)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return logits (B, codes), those of codes that are never drawn at minus infinity; the first by top-k."""
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k, 1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, place = logits.sort(1, descending=True)
        share = ordered.softmax(1)
        dropped = share.cumsum(1) - share > sampling.top_p
        dropped[:, 0] = False  # rounding
        logits = logits.masked_fill(torch.zeros_like(dropped).scatter(1, place, dropped), -torch.inf)
    return logits
