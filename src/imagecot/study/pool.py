"""A prompt's pool: the paths that one generator draws of it, what the judges say of them, what every row chooses.

The pool is drawn once. Rows that choose among recorded paths are replayed on it, so that all comparisons are paired;
searches that draw their own paths, such as a step-level one, have verdicts of their own.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from imagecot.contracts.questions import ORM, POTENTIAL
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.search import Candidate
from imagecot.errors import ImagecotError
from imagecot.files import make_own_folder, write_atomically
from imagecot.strategies.request import Request
from imagecot.strategies.run import Run
from imagecot.strategies.search import carry_out
from imagecot.strategies.trace import Trace
from imagecot.study.models import Judges, Models, Verdict
from imagecot.study.recipe import StudyRecipe, Unit, due
from imagecot.study.recorded import Recorded, record
from imagecot.study.rows import Counts, Outcome, PathRow, PoolRow

GALLERY = "gallery"
Pictures = Mapping[str, Image.Image]  # by row: what it chose


def observe(recipe: StudyRecipe, unit: Unit, models: Models, judges: Judges) -> tuple[PoolRow, Pictures]:
    """Draw a unit's pool, let the judges look and every row choose; return the row and the gallery's pictures.

    `correct` has a list a judge of a verdict a path, `atoms` the same of the shares of the prompt's parts that are
    right, `codes` the image codes of each; `searches` what each row made of them.
    """
    began = time.time()
    prompt = unit.metadata.prompt
    seed = prompt_seed(unit.seed, prompt)
    recorded = record(models.generator, prompt, path_seeds(seed, recipe.pool(unit.generator)))
    models = replace(models, generator=recorded)
    verdicts = judges.look(recorded.images, unit.metadata)
    searches: dict[str, Outcome] = {}
    pictures: dict[str, Image.Image] = {}
    for name, row in due(recipe, unit).items():
        request = models.request(prompt, row, recipe.n, seed)
        trace = carry_out(request)
        if row.how.replayed:
            searches[name] = chosen_of(recorded, request, trace)
        else:
            seen = judges.look_at(trace.image, unit.metadata)
            searches[name] = outcome_of(trace, seen, recorded.steps)
        if unit.shown(recipe.gallery):
            pictures[name] = trace.image
    row_of_pool = PoolRow(
        number=unit.number,
        metadata=unit.metadata,
        correct=[[verdict.correct for verdict in found] for found in verdicts],
        reasons=[verdict.reason for verdict in verdicts[0]],
        atoms=[[verdict.atoms for verdict in found] for found in verdicts],
        judges=judges.weights,
        codes=recorded.states[-1].codes.tolist(),
        searches=searches,
        began=began,
        ended=time.time(),
    )
    return row_of_pool, pictures


def outcome_of(trace: Trace, seen: Sequence[Verdict], steps: int) -> Outcome:
    """What a search said of its own candidates, which it chose, and what it counted; with its codes where they are.

    seen  each judge's verdict on what it chose
    """
    found = Outcome(
        paths=[_path(candidate) for candidate in trace.candidates],
        chosen=trace.chosen,
        cost=Counts.of(trace.cost),
        correct=[verdict.correct for verdict in seen],
        atoms=[verdict.atoms for verdict in seen],
    )
    codes = trace.choice.codes.get(steps)
    return found if codes is None else found.model_copy(update={"codes": codes.tolist()})


def chosen_of(recorded: Recorded, request: Request, trace: Trace) -> Outcome:
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
    return Outcome(
        paths=[_path(candidate) for candidate in candidates],
        chosen=seeds.index(trace.choice.seed),
        cost=Counts.of(trace.cost),
    )


def picture_of(number: int, row: str) -> str:
    """Where the gallery holds what a row chose for a prompt, within the study's folder."""
    return f"{GALLERY}/{number:03d}-{row}.png"


def _path(candidate: Candidate) -> PathRow:
    potential = next((verdict for verdict in candidate.verdicts if verdict.question == POTENTIAL.name), None)
    found = PathRow(
        score=None if candidate.score is None else round(candidate.score, 6),
        stopped=candidate.truncated_at if candidate.resumed_at is None else candidate.resumed_at,
        first_clear=candidate.first_clear,
        potential=None if potential is None else round(potential.p_yes, 6),
    )
    if potential is None or potential.fill is None:
        return found
    return found.model_copy(update={"fill": potential.fill})


def write_pictures(folder: Path, number: int, pictures: Pictures) -> None:
    """Write the pictures of a prompt into the gallery of a study's folder."""
    for name, picture in pictures.items():
        make_own_folder(folder / GALLERY)
        _write_picture(folder / picture_of(number, name), picture)


def _write_picture(file: Path, picture: Image.Image) -> None:
    write_atomically(file, lambda partial: picture.save(partial, format="PNG"))
