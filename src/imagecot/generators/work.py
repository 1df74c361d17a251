"""What an image costs a family of generators, by the sizes that its config.json says: nothing is loaded for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """The work of drawing one path, and of scoring one image.

    weights  that every token of an image is multiplied with: those of the layers and the head
    tokens   of an image that a step reads: all of them, or the codes of a row
    steps    of a path
    rows     of the forward pass of a step: 2 with guidance
    codes    of an image
    text     tokens of a usual prompt, which is read once for all its paths
    kept     in raster order, where every code takes a pass: the numbers that a code leaves in a path's cache; None
             where a step is one pass over all codes
    """

    weights: float
    tokens: int
    steps: int
    rows: int
    codes: int
    text: int
    kept: int | None = None

    @property
    def masked(self) -> bool:
        """Whether a likelihood is estimated by masks, of which each takes a forward pass."""
        return self.kept is None
