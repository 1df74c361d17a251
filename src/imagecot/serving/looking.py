"""What is to be seen of a search while it is drawn: pictures of unfinished paths, and what was said of them."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from imagecot import guard
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.search import Candidate
from imagecot.images import to_pictures
from imagecot.strategies.trace import shown_steps

ROWS = 12  # paths that are looked at
SIDE = 96  # pixels of a picture at most


@dataclass(frozen=True)
class Look:
    """The first paths of a search after a step.

    step, steps  done, and those of a path
    paths        all that were seen so far, in the order in which they began
    pictures     of those that did this step: a small PNG, by seed
    """

    step: int
    steps: int
    paths: Sequence[Candidate]
    pictures: Mapping[int, bytes]


class Onlooker:
    """A watcher of a search (`imagecot.strategies.run.Watcher`): it tells a look at each step that a picture shows.

    generator  who draws: it shows what unfinished paths predict
    tell       is given each look
    """

    def __init__(self, generator: Generator, tell: Callable[[Look], None]) -> None:
        self._generator, self._tell = generator, tell
        self._steps = shown_steps(generator.steps)
        self._seen: dict[int, Candidate] = {}  # by their seeds

    def __call__(self, paths: Paths, candidates: Sequence[Candidate]) -> None:
        """Look at paths after a step, the candidates that they are."""
        for candidate in candidates:
            if len(self._seen) < ROWS:
                self._seen.setdefault(candidate.seed, candidate)
        rows = [row for row, candidate in enumerate(candidates) if candidate.seed in self._seen]
        if paths.step not in self._steps or not rows:
            return
        pictures = to_pictures(guard.preview(self._generator, paths.select(rows)))
        seeds = [candidates[row].seed for row in rows]
        found = {seed: small(picture) for seed, picture in zip(seeds, pictures, strict=True)}
        self._tell(Look(paths.step, paths.steps, [*self._seen.values()], found))


def small(picture: Image.Image) -> bytes:
    """A small copy of a picture as PNG."""
    copy = picture.copy()
    copy.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    copy.save(stream, "PNG")
    return stream.getvalue()
