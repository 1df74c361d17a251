"""What a judge is tried on: pictures, prompts that are true of them and prompts that are not, and choices to make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagecot.geneval.prompts import normalise

if TYPE_CHECKING:
    from torch import Tensor

TRUE, WRONG = "true", "wrong"
"""The prompt of a picture that fulfils it, and of one that does not, by the labels."""
ABSENT, COLOR, NUMBER, PLACE = "absent", "color", "number", "place"
"""A true picture's prompt with one thing changed: an object that is not there, another colour, number or place."""
OTHER = "other"
"""The prompt of another picture."""
PATHS, GROUPS = 20, 3


@dataclass(frozen=True)
class Case:
    """A question about a picture, whose answer is known.

    picture  its number among those of the material
    kind     TRUE or what is false about the prompt; only TRUE is to be answered yes
    owner    of OTHER the number of the TRUE case that the prompt is of
    """

    picture: int
    prompt: str
    kind: str
    owner: int | None = None

    @property
    def fits(self) -> bool:
        """Whether yes is right."""
        return self.kind == TRUE


@dataclass(frozen=True)
class Group:
    """Pictures among which a search would choose for a prompt; their numbers among those of the material."""

    prompt: str
    pictures: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Material:
    """Labelled pictures.

    source    what they are, for people
    pictures  (3, H, W) in [0, 1] each, of any sizes
    cases     questions about them
    groups    choices between them
    clusters  (len(cases),) what is alike: cases of one cluster count as one observation in errors
    """

    source: str
    pictures: "tuple[Tensor, ...]"
    cases: tuple[Case, ...]
    groups: tuple[Group, ...]
    clusters: tuple[str, ...]

    def of(self, *kinds: str) -> list[int]:
        """The numbers of the cases of some kinds."""
        return [number for number, case in enumerate(self.cases) if case.kind in kinds]

    @property
    def prompts(self) -> list[str]:
        """Every prompt once."""
        return list(dict.fromkeys([case.prompt for case in self.cases] + [group.prompt for group in self.groups]))


def farthest(prompt: str, others: Sequence[str], first: int) -> int | None:
    """Which of others shares the fewest words with a prompt, looked for from `first` on; None where all are equal.

    What shares few words is false of the picture nearly always, though nobody has looked.
    """
    own = set(normalise(prompt).split())
    best, least = None, 1.0
    for k in range(len(others)):
        number = (first + k) % len(others)
        words = set(normalise(others[number]).split())
        shared = len(own & words) / max(1, len(own | words))
        if shared < least:
            best, least = number, shared
    return best
