"""GenEval's own world: photos of COCO's 80 classes, seen by a Mask2Former and a CLIP (Ghosh et al., 2023)."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from imagecot.contracts.metadata import Metadata
from imagecot.geneval.published import CLIP, DETECTOR

if TYPE_CHECKING:
    from imagecot.contracts.detector import Detector


class GenEval:
    """The published benchmark. Any detector that no other world knows judges by its prompts."""

    name = "geneval"
    judges: tuple[str, ...] = (DETECTOR,)
    words: frozenset[str] | None = None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The benchmark's 80 objects."""
        from imagecot.geneval.prompts import OBJECT_NAMES

        return OBJECT_NAMES

    def prompts(self) -> list[Metadata]:
        """The 553 prompts of the benchmark."""
        from imagecot.geneval.prompts import load_benchmark_prompts

        return load_benchmark_prompts()

    def training_prompts(self, per_task: int, seed: int) -> list[Metadata]:
        """Prompts of the same classes that are none of the benchmark's; UsageError for a number out of bounds."""
        from imagecot.geneval.prompts import training_prompts

        return training_prompts(self.classes, per_task, seed, [m.prompt for m in self.prompts()])

    def load_judges(self, name: str, colors: str | None = None) -> "Sequence[Detector]":
        """Load a Mask2Former, by mmdet's .pth, folder or hub id, with the CLIP `colors`; nobody judges beside it."""
        from imagecot.geneval.clip_colors import ClipColors
        from imagecot.geneval.mask2former import Mask2FormerClip

        return [Mask2FormerClip.from_pretrained(name, ClipColors.from_pretrained(colors or CLIP))]

    def parts(self, colors: str | None = None) -> dict[str, str]:
        """What a Mask2Former asks for the colours of what it finds."""
        return {"clip": colors or CLIP}
