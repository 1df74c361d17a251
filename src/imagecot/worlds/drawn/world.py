"""The drawn world: pictograms of twelve kinds in ten colours, which small models can learn to draw and to judge."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from imagecot.contracts.metadata import Metadata
from imagecot.worlds.drawn.shipped import DETECTORS

if TYPE_CHECKING:
    from imagecot.contracts.detector import Detector


class Drawn:
    """Scenes that are drawn here, with detectors that were trained on them: every image has two judges."""

    name = "drawn"
    judges: tuple[str, ...] = tuple(DETECTORS)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The twelve kinds of pictograms."""
        from imagecot.worlds.drawn.scenes import KINDS

        return KINDS

    @cached_property
    def words(self) -> frozenset[str] | None:
        """Every word that a caption can contain."""
        from imagecot.worlds.drawn.text import known_words

        return frozenset(known_words())

    def prompts(self) -> list[Metadata]:
        """The 360 held-out prompts, 60 of each task."""
        from imagecot.worlds.drawn.captions import held_out_prompts

        return held_out_prompts()

    def training_prompts(self, per_task: int, seed: int) -> list[Metadata]:
        """Prompts in wordings that are not held out; UsageError for a number out of bounds."""
        from imagecot.worlds.drawn.captions import training_prompts

        return training_prompts(per_task, seed)

    def load_judges(self, name: str, colors: str | None = None) -> "Sequence[Detector]":
        """Load the detector of that name, then the other one; both name colours themselves."""
        from imagecot.worlds.drawn.detector import load_detector

        return [load_detector(name), *(load_detector(other) for other in self.judges if other != name)]


class Harder:
    """The drawn world with harder prompts: three to seven parts each, which no generator was trained on."""

    name = "drawn-harder"
    judges: tuple[str, ...] = Drawn.judges

    def __init__(self) -> None:
        self._drawn = Drawn()

    @property
    def classes(self) -> tuple[str, ...]:
        """The twelve kinds of pictograms."""
        return self._drawn.classes

    @property
    def words(self) -> frozenset[str] | None:
        """Every word that a caption can contain."""
        return self._drawn.words

    def prompts(self) -> list[Metadata]:
        """The 200 prompts, 40 of each number of parts."""
        from imagecot.worlds.drawn.harder import harder_prompts

        return list(harder_prompts())

    def training_prompts(self, per_task: int, seed: int) -> list[Metadata]:
        """Those of the drawn world: there are none of this kind to train on."""
        return self._drawn.training_prompts(per_task, seed)

    def load_judges(self, name: str, colors: str | None = None) -> "Sequence[Detector]":
        """As of the drawn world."""
        return self._drawn.load_judges(name, colors)
