"""A model that draws an image from a prompt in steps, and what only some such models can do beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.paths import Paths
from imagecot.contracts.values import JSON


@dataclass(frozen=True)
class Canvas:
    """What a generator draws on.

    grid   rows and columns of codes: a path has rows * columns of them, row by row
    codes  how many codes there are: each is one of 0 to codes - 1
    image  height and width of the image in pixels
    """

    grid: tuple[int, int]
    codes: int
    image: tuple[int, int]

    @property
    def positions(self) -> int:
        """Codes of an image."""
        return self.grid[0] * self.grid[1]


@runtime_checkable
class Generator(Protocol):
    """Draws an image in `steps` steps: all codes at once, less and less of them masked, or row by row."""

    @property
    def steps(self) -> int:
        """Steps of a path."""
        ...

    @property
    def rows_per_path(self) -> int:
        """Rows of the forward pass that one step of one path costs: 2 with guidance, 1 without."""
        ...

    @property
    def paths_per_pass(self) -> int:
        """Paths that one forward pass takes within memory; larger batches are split."""
        ...

    @property
    def settings(self) -> Mapping[str, JSON]:
        """Everything but steps and weights that changes what is drawn, as JSON knows it: a part of every identity."""
        ...

    @property
    def canvas(self) -> Canvas:
        """What is drawn on."""
        ...

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        """Return paths at step 0: one for each of seeds (B,), of the one prompt or of B prompts.

        UsageError for a prompt that cannot be drawn.
        """
        ...

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        """Enter paths again that had codes (B, N) after `step` steps; prompts and seeds as of `start`.

        What follows is what would have followed, and `preview` shows what it showed. Only a `Predictor`, whose
        predictions are more than the codes, may have no preview of such paths before their next step.
        """
        ...

    def advance(self, paths: Paths) -> Paths:
        """Return all paths one step further; what a path becomes depends on its own seed, codes and prompt alone."""
        ...

    def preview(self, paths: Paths) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] that the paths predict now; of finished ones what `decode` gives."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] of complete codes (B, N)."""
        ...


@runtime_checkable
class Corrector(Protocol):
    """Draws again what was rejected, from the prompt, the rejected image and reasons (paper, section 3.4)."""

    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        """Return paths at step 0 as `start` does; corrections are one for all paths or one for each."""
        ...


@runtime_checkable
class Remasker(Protocol):
    """Goes back: decides some codes anew. Masked generators can, raster ones cannot."""

    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        """Return the paths with the codes at `undecided` (B, N) bool not drawn, at the step that draws so many.

        All other codes stay what they are.
        """
        ...


@runtime_checkable
class Doubting(Protocol):
    """Tells how probable codes are that it has drawn already."""

    @property
    def doubting_rows(self) -> int:
        """Rows of the forward pass that this costs for a path."""
        ...

    def confidence(self, paths: Paths) -> Tensor:
        """Return the probabilities (B, N) in [0, 1] of the drawn codes, each given some of the others; 0 elsewhere."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Predicts at every step all codes of the image, so that previews can be decoded later, when somebody looks."""

    def predicted(self, paths: Paths) -> Tensor:
        """Return the complete codes (B, N) that the last step predicted: `preview` is their `decode`."""
        ...


@runtime_checkable
class Filling(Protocol):
    """Draws row by row and predicts nothing beyond: its previews of unfinished paths are completed by a rule."""

    @property
    def fill(self) -> str:
        """How that is done, by its name ("blank", "repeat", "draft" ...); it stands in `settings` too."""
        ...


def fill_of(generator: Generator, step: int) -> str | None:
    """How the previews of paths after `step` steps are completed; None where the generator itself says all of them."""
    return generator.fill if isinstance(generator, Filling) and step < generator.steps else None


@runtime_checkable
class Encoder(Protocol):
    """Finds the codes of pictures that it did not draw."""

    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, N) int64 of images (B, 3, H, W) in [0, 1] of the canvas' size."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """Draws under other settings when asked."""

    def adjusted(self, **settings: JSON) -> Self:
        """The same weights under other `settings` or `steps`; UsageError for one that it has not or cannot be."""
        ...
