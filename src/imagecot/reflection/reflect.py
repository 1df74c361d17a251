"""Reflection on one image: by asking where the prompt can be read into parts, else in the verifier's own words."""

from torch import Tensor

from imagecot import guard
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.geneval.reading import read_prompt
from imagecot.reflection.by_asking import examined


def check_reflects(verifier: Verifier, prompt: str) -> None:
    """Raise UsageError where nobody can say what is wrong with an image of a prompt."""
    if not isinstance(verifier, Reflector) and read_prompt(prompt) is None:
        raise UsageError(
            "this verifier writes no reasons, and the prompt cannot be read into parts to ask about; word it as "
            "GenEval does, such as 'a photo of two cups', or name another verifier."
        )


def reflect_on(verifier: Verifier, images: Tensor, prompt: str, seed: int) -> Reflection:
    """Ask what is wrong with one image (1, 3, H, W) in [0, 1]; `seed` decides the wording of reasons that are found."""
    requirement = read_prompt(prompt)
    if requirement is not None:
        return examined(verifier, images, prompt, requirement, seed)
    check_reflects(verifier, prompt)
    assert isinstance(verifier, Reflector)
    return guard.reflect(verifier, images, prompt)
