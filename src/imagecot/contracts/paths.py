"""Reasoning paths in progress."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, cast

from torch import Tensor

from imagecot.contracts.devices import sent
from imagecot.contracts.tree import check_rows, gathered

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator

UNDECIDED = -1  # an image code that is not drawn yet


@dataclass(frozen=True, eq=False)
class Paths:
    """A batch of B paths at one step; nothing in it is ever modified, so an older `Paths` can be taken up again.

    codes         (B, N) int64, the codes that are drawn and UNDECIDED elsewhere; on the generator's device
    seeds         (B,) int64, the source of each path's randomness
    prompt_index  (B,) int64, each path's prompt (and correction) among those that it was started with; on the device
                  where it is asked for
    step, steps   steps done, and steps in all
    shared        what all paths share, such as the prompts' keys and values; never gathered
    own           what belongs to each path, such as its KV cache: a nesting of tensors with leading dimension B

    ValueError where codes, seeds, prompt_index and own are not of equally many paths.
    """

    codes: Tensor
    seeds: Tensor
    prompt_index: Tensor
    step: int
    steps: int
    shared: Any = None
    own: Any = None

    def __post_init__(self) -> None:
        rows = len(self.codes)
        check_rows((self.seeds, self.prompt_index), rows)
        check_rows(self.own, rows)

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def finished(self) -> bool:
        """Whether every step is done, so that all codes are decided."""
        return self.step >= self.steps

    def select(self, indices: Tensor | list[int], seeds: Tensor | None = None) -> Self:
        """Gather the paths at `indices` (int64 or a bool mask): survivors, or forks where an index repeats.

        Forks diverge only under new `seeds` (one for each index, see `fork_seeds`); without them each path keeps its
        own. All that belongs to a path comes along.
        """
        held = (self.codes, self.seeds, self.prompt_index, self.own)
        codes, old, index, own = cast(Sequence[Any], gathered(held, indices))
        new = old if seeds is None else sent(seeds, self.seeds.device).to(self.seeds)
        return replace(self, codes=codes, seeds=new, prompt_index=index, own=own)


def states(generator: "Generator", paths: Paths) -> Iterator[Paths]:
    """Yield the paths after each step that they still have to do."""
    while not paths.finished:
        paths = generator.advance(paths)
        yield paths


def finish(generator: "Generator", paths: Paths) -> Paths:
    """Return the paths after their last step."""
    while not paths.finished:
        paths = generator.advance(paths)
    return paths
