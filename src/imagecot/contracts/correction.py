"""What a path that draws again is told of the image that was rejected (paper, section 3.4)."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Correction:
    """What is wrong with an image of a prompt.

    codes    (N,) image codes of that image, None to leave it out
    reasons  what is wrong with it, in words; may be empty
    """

    codes: Tensor | None
    reasons: str = ""


Asked = str | tuple[str, Correction]  # what an image is drawn from: a prompt, and what was wrong if it is drawn again


def without_words(asked: Asked) -> Asked:
    """What guidance goes against: the empty prompt, with the same rejected image."""
    return "" if isinstance(asked, str) else ("", replace(asked[1], reasons=""))
