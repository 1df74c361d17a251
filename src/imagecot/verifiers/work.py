"""What a question costs a family of verifiers: tokens that it reads; nothing is loaded for it."""

from dataclasses import dataclass

_QUESTION = 80  # tokens of a question with its chat


@dataclass(frozen=True)
class Asking:
    """The tokens of a question about an image, and of a second turn."""

    judged: int
    follow_up: int = 40


ONE_VIEW = Asking(729 + _QUESTION)  # SigLIP's patches of 384 pixels, as LLaVA-OneVision sees an image; of others about
JANUS = Asking(576 + _QUESTION)
SHOWO = Asking(256 + _QUESTION)
