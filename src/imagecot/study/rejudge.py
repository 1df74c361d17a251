"""Verdicts of judges that have changed since the paths of a study were drawn: made anew from the paths' codes."""

from collections.abc import Mapping, Sequence

import torch

from imagecot import interruption
from imagecot.contracts.generator import Generator
from imagecot.errors import ImagecotError
from imagecot.generators import load_generator
from imagecot.study.models import Judges, Verdict
from imagecot.study.recipe import StudyRecipe
from imagecot.study.rows import Codes, Outcome, PoolRow
from imagecot.study.store import ADVICE, Store
from imagecot.watch import Watch


def judge_again(recipe: StudyRecipe, places: Mapping[str, Store[PoolRow]], watch: Watch) -> None:
    """Replace the verdicts that judges with other weights gave; nothing is drawn or verified.

    ImagecotError for rows that keep no codes.
    """
    judges: Judges | None = None
    for key, store in places.items():
        rows = store.rows()
        if not rows:
            continue
        judges = judges or Judges.load(recipe.detector, recipe.world)
        stale = [row for row in rows if row.judges != judges.weights]
        if not all(_keeps_codes(row) for row in stale):
            raise ImagecotError(
                f"{store.file} was judged by other weights and keeps no codes; delete {recipe.output} to draw it anew."
            )
        if stale:
            generator = load_generator(recipe.generators[key], dtype=recipe.precision)
            with watch.progress(f"judging {key} again") as progress:
                for done, row in enumerate(stale, 1):
                    interruption.check()
                    if not _drawable(row, generator):
                        where = f"row {row.number} of {store.file}"
                        raise ImagecotError(f"{where} has codes that {key} cannot draw; {ADVICE}.")
                    store.keep(judged_by(judges, row, generator))
                    progress(done, len(stale))


def _keeps_codes(row: PoolRow) -> bool:
    """Whether there are codes of every image of a row on which there are verdicts."""
    return bool(row.codes) and all(found.codes for found in row.searches.values() if found.correct)


def _codes(row: PoolRow) -> tuple[list[Codes], list[str]]:
    """The codes of all images of a row: of its pool, and of what the named searches drew themselves."""
    own = {name: found.codes for name, found in row.searches.items() if found.codes}
    return [*(row.codes or []), *own.values()], [*own]


def _drawable(row: PoolRow, generator: Generator) -> bool:
    """Whether the codes of a row are complete codes of the generator."""
    canvas = generator.canvas
    return all(len(codes) == canvas.positions and max(codes) < canvas.codes for codes in _codes(row)[0])


@torch.no_grad()
def judged_by(judges: Judges, row: PoolRow, generator: Generator) -> PoolRow:
    """A row of a pool with the verdicts of `judges` on the images that its codes stand for."""
    codes, own = _codes(row)
    verdicts = judges.look(generator.decode(torch.tensor(codes)), row.metadata)
    paths = len(codes) - len(own)
    seen = {name: [said[paths + k] for said in verdicts] for k, name in enumerate(own)}
    anew = {name: _chosen_again(row.searches[name], found) for name, found in seen.items()}
    of_pool = [said[:paths] for said in verdicts]
    return row.model_copy(
        update={
            "correct": [[verdict.correct for verdict in said] for said in of_pool],
            "reasons": [verdict.reason for verdict in of_pool[0]],
            "atoms": [[verdict.atoms for verdict in said] for said in of_pool],
            "searches": {**row.searches, **anew},
            "judges": judges.weights,
        }
    )


def _chosen_again(outcome: Outcome, seen: Sequence[Verdict]) -> Outcome:
    """What a search of its own paths made of them, with each judge's new verdict on what it chose."""
    return outcome.model_copy(
        update={"correct": [verdict.correct for verdict in seen], "atoms": [verdict.atoms for verdict in seen]}
    )
