"""A prompt's pool: the paths that one generator draws of it, what the judges say of them, what every row chooses.

The pool is drawn once. Rows that choose among whole paths are replayed on it, so that all comparisons are paired;
step-level search draws its own paths.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from imagecot.contracts.detector import Detector
from imagecot.contracts.generator import Generator
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.search import Candidate, Cost
from imagecot.contracts.verifier import Verifier
from imagecot.files import make_own_folder, write_atomically
from imagecot.generators import load_generator
from imagecot.geneval.detection import judge
from imagecot.geneval.rules import Judgment
from imagecot.images import from_picture
from imagecot.models import weights_of
from imagecot.strategies import search
from imagecot.strategies.parm_plus_plus import codes_of
from imagecot.strategies.trace import Trace
from imagecot.study.recipe import Metadata, RowRecipe, StudyRecipe, Unit, due
from imagecot.study.recorded import record
from imagecot.study.rows import Row
from imagecot.verifiers import load_verifier
from imagecot.worlds.find import load_judges

GALLERY = "gallery"


@dataclass(frozen=True)
class Models:
    """What draws and judges for the rows of one generator; verifiers by name."""

    generator: Generator
    verifiers: dict[str, Verifier]

    def verifier(self, name: str | None) -> Verifier | None:
        """The verifier of that name; None for a search without."""
        return self.verifiers[name] if name else None


def digests(role: str, name: str) -> dict[str, str]:
    """SHA-256 of the weights of a generator or verifier; what the hub has and this machine not is fetched."""
    found = weights_of(role, name)
    if not found:
        load: Callable[[str], object] = load_generator if role == "generator" else load_verifier
        load(name)
        found = weights_of(role, name)
    return found


class Shelf:
    """The models of one generator at a time, in a number format: what is asked for again is not loaded again."""

    def __init__(self, precision: str | None) -> None:
        self._precision = precision
        self._there: Models | None = None
        self._asked: tuple[str, frozenset[str]] = "", frozenset()

    def models(self, generator: str, verifiers: set[str]) -> Models:
        """The models of these names; verifiers that were there before are taken over, all others let go."""
        asked = generator, frozenset(verifiers)
        if self._there is None or asked != self._asked:
            self._there, self._asked = load_models(generator, verifiers, self._precision, self._there), asked
        return self._there

    def clear(self) -> None:
        """Let go of all models."""
        self._there = None


def load_models(generator: str, verifiers: set[str], precision: str | None, before: Models | None = None) -> Models:
    """Load models by their names; verifiers that are there `before` are taken over, all others let go."""
    there = before.verifiers if before else {}
    loaded = {name: there.get(name) or load_verifier(name, dtype=precision) for name in sorted(verifiers)}
    return Models(load_generator(generator, dtype=precision), loaded)


def verifiers_of(recipe: StudyRecipe, generator: str) -> set[str]:
    """The names of all verifiers that judge in rows of a generator, by its key."""
    return {row.verifier for row in recipe.rows_of(generator).values() if row.verifier}


@dataclass(frozen=True)
class Judges:
    """The detectors that say whether an image is right; the first is the one that scores are by."""

    detectors: list[Detector]

    @classmethod
    def load(cls, name: str) -> "Judges":
        """The detector of that name, and the others of its world."""
        return cls(load_judges(name))

    @property
    def weights(self) -> list[Any]:
        """Digests of the weights of each, by which verdicts are told apart from those of other judges."""
        return [detector.record()["weights"] for detector in self.detectors]

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
    paths = recipe.n if recipe.chosen_from(unit.generator) else 1
    recorded = record(models.generator, prompt, path_seeds(seed, paths))
    verdicts = judges.look(recorded.images, unit.metadata)
    searches: Row = {}
    pictures: Pictures = {}

    def run(row: RowRecipe, keep: float) -> Trace:
        return search(
            prompt,
            generator=models.generator if row.search == "stepwise" else recorded,
            verifier=models.verifier(row.verifier),
            strategy=row.search,
            n=recipe.n,
            seed=seed,
            first_step=row.first_step,
            keep=keep,
        )

    for name, row in due(recipe, unit).items():
        trace = run(row, row.keep)
        searches[name] = outcome(trace)
        if row.keep:
            # Of fewer paths others are stopped: the answers on all final images serve every N.
            for path, finished in zip(searches[name]["paths"], outcome(run(row, 1.0))["paths"], strict=True):
                path["score"] = finished["score"]
        if row.search == "stepwise":
            found = judges.look(from_picture(trace.image)[None], unit.metadata)
            searches[name]["correct"] = [verdict.correct for (verdict,) in found]
            searches[name]["codes"] = codes_of(trace.choice).tolist()
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


def counts(cost: Cost) -> dict[str, int]:
    """A cost without its seconds, which a replayed search does not have."""
    return {name: value for name, value in asdict(cost).items() if name != "seconds"}


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
