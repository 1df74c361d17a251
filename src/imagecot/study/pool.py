"""A prompt's pool: the paths that one generator draws of it, what the judges say of them, what every row chooses.

The pool is drawn once. Rows that choose among recorded paths are replayed on it, so that all comparisons are paired;
searches that draw their own paths, such as a step-level one, have verdicts of their own.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from imagecot import guard
from imagecot.contracts.detector import Detector
from imagecot.contracts.generator import Generator
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.search import Candidate, Cost
from imagecot.contracts.verifier import Verifier
from imagecot.errors import ImagecotError
from imagecot.files import make_own_folder, write_atomically
from imagecot.generators import load_generator
from imagecot.geneval.detection import judge
from imagecot.geneval.rules import Judgment
from imagecot.images import from_picture
from imagecot.strategies.request import Request
from imagecot.strategies.run import Run
from imagecot.strategies.search import carry_out
from imagecot.strategies.trace import Trace
from imagecot.study.recipe import Metadata, RowRecipe, StudyRecipe, Unit, due
from imagecot.study.recorded import Recorded, record
from imagecot.study.rows import SECONDS, Row
from imagecot.verifiers import load_verifier
from imagecot.worlds.find import load_judges

GALLERY = "gallery"


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

    def request(self, prompt: str, row: RowRecipe, n: int, seed: int) -> Request:
        """What a row asks for; UsageError where that cannot be done with these models."""
        verifier, corrector = self.verifier(row.verifier), self.corrector(row.corrector)
        return Request(prompt, self.generator, verifier, row.search, n, seed, row.options, corrector)


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

    def of_rows(self, recipe: StudyRecipe, generator: str) -> Models:
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
    loaded = {name: there.get(name) or load_verifier(name, dtype=precision) for name in sorted(verifiers)}
    return Models(load_generator(generator, dtype=precision), loaded)


@dataclass(frozen=True)
class Judges:
    """The detectors that say whether an image is right; the first is the one that scores are by."""

    detectors: list[Detector]

    @classmethod
    def load(cls, name: str, world: str | None = None) -> "Judges":
        """The detector of that name, and the others of its world."""
        return cls(load_judges(name, first=world))

    @property
    def weights(self) -> list[Any]:
        """What the verdicts of each depend on, by which they are told apart from those of other judges."""
        records = [guard.record(detector) for detector in self.detectors]
        found: list[Any] = json.loads(json.dumps([record.get("weights", record) for record in records]))
        return found

    def look(self, images: Tensor, metadata: Metadata) -> list[list[Judgment]]:
        """The verdicts of each judge on images (B, 3, H, W) in [0, 1], seen as 8-bit pictures as files hold them."""
        seen = list((images.float().cpu() * 255).round() / 255)
        return [judge(detector, seen, [metadata] * len(seen)) for detector in self.detectors]


Pictures = dict[str, Image.Image]  # by row: what it chose


def observe(recipe: StudyRecipe, unit: Unit, models: Models, judges: Judges) -> tuple[Row, Pictures]:
    """Draw a unit's pool, let the judges look and every row choose; return the row and the gallery's pictures.

    `correct` has a list a judge of a verdict a path, `codes` the image codes of each; `searches` what each row made of
    them.
    """
    began = time.time()
    prompt = unit.metadata["prompt"]
    seed = prompt_seed(recipe.seed, prompt)
    recorded = record(models.generator, prompt, path_seeds(seed, recipe.pool(unit.generator)))
    models = replace(models, generator=recorded)
    verdicts = judges.look(recorded.images, unit.metadata)
    searches: Row = {}
    pictures: Pictures = {}
    for name, row in due(recipe, unit).items():
        request = models.request(prompt, row, recipe.n, seed)
        trace = carry_out(request)
        if row.how.replayed:
            searches[name] = chosen_of(recorded, request, trace)
        else:
            found = judges.look(from_picture(trace.image)[None], unit.metadata)
            searches[name] = outcome(trace) | {"correct": [verdict.correct for (verdict,) in found]}
            if recorded.steps in trace.choice.codes:
                searches[name]["codes"] = trace.choice.codes[recorded.steps].tolist()
        if unit.rank < recipe.gallery:
            pictures[name] = trace.image
    seen: Row = {
        "number": unit.number,
        "metadata": unit.metadata,
        "correct": [[verdict.correct for verdict in found] for found in verdicts],
        "reasons": [verdict.reason for verdict in verdicts[0]],
        "judges": judges.weights,
        "codes": recorded.states[-1].codes.tolist(),
        "searches": searches,
        "began": began,
        "ended": time.time(),
    }
    return seen, pictures


def outcome(trace: Trace) -> Row:
    """What a search said of its candidates, which it chose, and what it counted."""
    return {"paths": [_path(c) for c in trace.candidates], "chosen": trace.chosen, "cost": counts(trace.cost)}


def chosen_of(recorded: Recorded, request: Request, trace: Trace) -> Row:
    """The outcome of a search that takes one of the recorded paths, path by path, each with a score.

    Of paths whose images the search did not ask about the verifier is asked now: they serve every N.
    ImagecotError where the search took another path.
    """
    by_seed = {candidate.seed: candidate for candidate in reversed(trace.candidates)}
    seeds = recorded.seeds[: request.paths]
    if trace.choice.seed not in seeds:
        raise ImagecotError(
            f"{request.name} chose a path that it drew itself, although it says that it can be replayed on recorded "
            "ones; let its replay return None."
        )
    candidates = [by_seed.get(seed, Candidate(seed)) for seed in seeds]
    unasked = [k for k, candidate in enumerate(candidates) if candidate.score is None]
    if unasked and request.verifier is not None:
        images, asked = recorded.images[unasked], [Candidate(seeds[k]) for k in unasked]
        for k, p in zip(unasked, Run(request).ask(images, asked, recorded.steps, ORM), strict=True):
            candidates[k] = replace(candidates[k], score=p)
    paths = [_path(candidate) for candidate in candidates]
    return {"paths": paths, "chosen": seeds.index(trace.choice.seed), "cost": counts(trace.cost)}


def counts(cost: Cost) -> dict[str, int]:
    """A cost without its seconds, which a replayed search does not have."""
    return {name: value for name, value in asdict(cost).items() if name not in SECONDS}


def picture_of(number: int, row: str) -> str:
    """Where the gallery holds what a row chose for a prompt, within the study's folder."""
    return f"{GALLERY}/{number:03d}-{row}.png"


def _path(candidate: Candidate) -> dict[str, Any]:
    potential = [verdict.p_yes for verdict in candidate.verdicts if verdict.question == "potential"]
    return {
        "score": None if candidate.score is None else round(candidate.score, 6),
        "stopped": candidate.truncated_at if candidate.resumed_at is None else candidate.resumed_at,
        "first_clear": candidate.first_clear,
        "potential": round(potential[0], 6) if potential else None,
    }


def write_pictures(folder: Path, number: int, pictures: Pictures) -> None:
    """Write the pictures of a prompt into the gallery of a study's folder."""
    for name, picture in pictures.items():
        make_own_folder(folder / GALLERY)
        _write_picture(folder / picture_of(number, name), picture)


def _write_picture(file: Path, picture: Image.Image) -> None:
    write_atomically(file, lambda partial: picture.save(partial, format="PNG"))
