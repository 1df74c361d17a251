"""What prompts are about, and who judges them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imagecot.contracts.metadata import Metadata

if TYPE_CHECKING:
    from imagecot.contracts.detector import Detector

Prompts = Sequence[Metadata | Mapping[str, object]]
"""Prompts and what their images must show: as `Metadata`, or as GenEval writes them (tag, include, exclude, prompt)."""


@runtime_checkable
class World(Protocol):
    """Prompts, classes and judges that belong together."""

    @property
    def name(self) -> str:
        """How it is named in commands and recipes."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What its prompts may ask for."""
        ...

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of its detectors; by the first its scores are."""
        ...

    @property
    def words(self) -> frozenset[str] | None:
        """Those that its generators were trained on; None where they know any."""
        ...

    def prompts(self) -> Prompts:
        """The prompts that it is tested by, which no training may see."""
        ...

    def training_prompts(self, per_task: int, seed: int) -> Prompts:
        """Other prompts of its kind, at most `per_task` of each task."""
        ...

    def load_judges(self, name: str, colors: str | None = None) -> "Sequence[Detector]":
        """Load a detector by its name, then the others that this world judges by.

        colors  the model that names colours, for detectors that only find objects
        """
        ...
