"""What draws, verifies and judges in a study, loaded once and shared by all rows of a generator."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from PIL.Image import Image
from pydantic import JsonValue
from torch import Tensor

from imagecot import guard
from imagecot.contracts.detector import Detections, Detector
from imagecot.contracts.generator import Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.search import Strategy
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.geneval.atoms import share_of_atoms
from imagecot.geneval.rules import judge_detections
from imagecot.images import from_picture
from imagecot.judging import beside, sharing
from imagecot.strategies.options import settings_of
from imagecot.strategies.request import Request
from imagecot.study.recipe import Compared, RowRecipe
from imagecot.verifiers import load_verifier
from imagecot.worlds.find import load_judges


class Asked(Protocol):
    """A search with its options, and the names of the models that take part beside the generator."""

    @property
    def search(self) -> str | Strategy:
        """The search, or how it is named."""
        ...

    @property
    def options(self) -> Mapping[str, JSON]:
        """What is said of its settings."""
        ...

    @property
    def verifier(self) -> str | None:
        """Who judges in it, if anybody."""
        ...

    @property
    def corrector(self) -> str | None:
        """Who draws again what is rejected, where not the generator does."""
        ...


@dataclass(frozen=True)
class Models:
    """What draws and judges for the rows of one generator; verifiers and correctors by name."""

    generator: Generator
    verifiers: Mapping[str, Verifier]
    correctors: Mapping[str, Generator] = field(default_factory=dict)

    def verifier(self, name: str | None) -> Verifier | None:
        """The verifier of that name; None for a search without."""
        return self.verifiers[name] if name else None

    def corrector(self, name: str | None) -> Generator | None:
        """The corrector of that name; None where the generator draws again itself, or nothing is."""
        return self.correctors[name] if name else None

    def request(self, prompt: str, asked: Asked, n: int, seed: int) -> Request:
        """What is asked for; UsageError where that cannot be done with these models."""
        verifier, corrector = self.verifier(asked.verifier), self.corrector(asked.corrector)
        options = asked.options
        return Request(prompt, self.generator, verifier, asked.search, n, seed, options=options, corrector=corrector)


class Shelf:
    """The models of one generator at a time, in a number format: what is asked for again is not loaded again."""

    def __init__(self, precision: str | None) -> None:
        self._precision = precision
        self._there: Models | None = None
        self._asked: tuple[str, frozenset[str], frozenset[str]] = "", frozenset(), frozenset()

    def models(self, generator: str, verifiers: set[str], correctors: Iterable[str] = ()) -> Models:
        """The models of these names; verifiers that were there before are taken over, all others let go."""
        asked = generator, frozenset(verifiers), frozenset(correctors)
        if self._there is None or asked != self._asked:
            models = load_models(generator, verifiers, self._precision, self._there)
            loaded = {name: load_generator(name, dtype=self._precision) for name in sorted(asked[2])}
            self._there, self._asked = replace(models, correctors=loaded), asked
        return self._there

    def of_rows(self, recipe: Compared, generator: str) -> Models:
        """All models of the rows of a generator, by its key."""
        rows = recipe.rows_of(generator).values()
        verifiers = {row.verifier for row in rows if row.verifier}
        correctors = {row.corrector for row in rows if row.corrector}
        return self.models(recipe.generators[generator], verifiers, correctors)

    def clear(self) -> None:
        """Let go of all models."""
        self._there = None


def load_models(generator: str, verifiers: set[str], precision: str | None, before: Models | None = None) -> Models:
    """Load models by their names; verifiers that are there `before` are taken over, all others let go."""
    there = before.verifiers if before else {}
    drawer = load_generator(generator, dtype=precision)
    with sharing(), beside(generator, drawer, dtype=precision):
        loaded = {name: there.get(name) or load_verifier(name, dtype=precision) for name in sorted(verifiers)}
    return Models(drawer, loaded)


def check_row(name: str, row: RowRecipe, models: Models, texts: Sequence[str]) -> None:
    """Raise UsageError, naming the row, for what its models cannot do; of a prompt only reasons depend."""
    strategy = row.how.strategy
    try:
        settings_of(strategy, row.search, row.options, {}, models.generator.steps)
    except UsageError as error:
        raise UsageError(f"rows.{name}: {str(error).rstrip('.')}; say others in the row.") from None
    for text in texts if "reflector" in strategy.needs else texts[:1]:
        try:
            models.request(text, row, 1, 0)
        except UsageError as error:
            raise UsageError(f"rows.{name}: {error}") from None


@dataclass(frozen=True)
class Verdict:
    """What a judge says of an image: GenEval's verdict, what is wrong, and the share of the prompt's parts it shows."""

    correct: bool
    reason: str
    atoms: float


@dataclass(frozen=True)
class Judges:
    """The detectors that say whether an image is right; the first is the one that scores are by."""

    detectors: list[Detector]

    @classmethod
    def load(cls, name: str, world: str | None = None) -> Self:
        """The detector of that name, and the others of its world."""
        return cls(load_judges(name, first=world))

    @property
    def weights(self) -> list[JsonValue]:
        """What the verdicts of each depend on, by which they are told apart from those of other judges.

        Versions of libraries, which a record also tells, are none of it.
        """
        records = [guard.record(detector) for detector in self.detectors]
        found: list[JsonValue] = json.loads(json.dumps([{**record, "versions": None} for record in records]))
        return found

    def look(self, images: Tensor, metadata: Metadata) -> list[list[Verdict]]:
        """The verdicts of each judge on images (B, 3, H, W) in [0, 1], seen as 8-bit pictures as files hold them."""
        seen = list((images.float().cpu() * 255).round() / 255)
        return [[_verdict(metadata, found) for found in guard.detect(judge, seen)] for judge in self.detectors]

    def look_at(self, picture: Image, metadata: Metadata) -> list[Verdict]:
        """The verdict of each judge on one picture."""
        return [verdict for (verdict,) in self.look(from_picture(picture)[None], metadata)]

    def right(self, picture: Image, metadata: Metadata) -> list[bool]:
        """Whether each judge calls a picture right."""
        return [verdict.correct for verdict in self.look_at(picture, metadata)]


def _verdict(metadata: Metadata, found: Detections) -> Verdict:
    judged = judge_detections(metadata, found.boxes, found.colors)
    return Verdict(judged.correct, judged.reason, round(share_of_atoms(metadata, found), 4))
