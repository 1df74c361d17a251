"""Verdicts of judges that have changed since the paths of a study were drawn: made anew from the paths' codes."""

import torch
from rich.console import Console
from rich.progress import track

from imagecot import interruption
from imagecot.contracts.generator import Generator
from imagecot.errors import ImagecotError
from imagecot.generators import load_generator
from imagecot.study.pool import Judges
from imagecot.study.recipe import StudyRecipe
from imagecot.study.rows import Row
from imagecot.study.store import ADVICE, Store


def judge_again(recipe: StudyRecipe, places: dict[str, Store], console: Console) -> None:
    """Replace the verdicts that judges with other weights gave; nothing is drawn or verified.

    ImagecotError for rows that keep no codes.
    """
    judges: Judges | None = None
    for key, store in places.items():
        rows = store.rows()
        if not rows:
            continue
        judges = judges or Judges.load(recipe.detector, recipe.world)
        stale = [row for row in rows if row.get("judges") != judges.weights]
        if not all(_keeps_codes(row) for row in stale):
            raise ImagecotError(
                f"{store.file} was judged by other weights and keeps no codes; delete {recipe.output} to draw it anew."
            )
        if stale:
            generator = load_generator(recipe.generators[key], dtype=recipe.precision)
            for row in track(stale, f"judging {key} again", console=console, disable=not console.is_terminal):
                interruption.check()
                if not _drawable(row, generator):
                    where = f"row {row['number']} of {store.file}"
                    raise ImagecotError(f"{where} has codes that {key} cannot draw; {ADVICE}.")
                store.keep(judged_by(judges, row, generator))


def _keeps_codes(row: Row) -> bool:
    """Whether there are codes of every image of a row on which there are verdicts."""
    searches = row["searches"].values()
    return bool(row.get("codes")) and all(found.get("codes") for found in searches if found.get("correct"))


def _codes(row: Row) -> tuple[list[list[int]], list[str]]:
    """The codes of all images of a row: of its pool, and of what the named searches drew themselves."""
    own = [name for name, found in row["searches"].items() if found.get("codes")]
    return [*row["codes"], *(row["searches"][name]["codes"] for name in own)], own


def _drawable(row: Row, generator: Generator) -> bool:
    """Whether the codes of a row are complete codes of the generator."""
    canvas = generator.canvas
    return all(len(codes) == canvas.positions and max(codes) < canvas.codes for codes in _codes(row)[0])


@torch.no_grad()
def judged_by(judges: Judges, row: Row, generator: Generator) -> Row:
    """A row of a pool with the verdicts of `judges` on the images that its codes stand for."""
    codes, own = _codes(row)
    verdicts = judges.look(generator.decode(torch.tensor(codes)), row["metadata"])
    correct = [[verdict.correct for verdict in found] for found in verdicts]
    paths = len(row["codes"])
    anew = {
        name: {**row["searches"][name], "correct": [said[paths + k] for said in correct]} for k, name in enumerate(own)
    }
    return {
        **row,
        "correct": [said[:paths] for said in correct],
        "reasons": [verdict.reason for verdict in verdicts[0][:paths]],
        "searches": {**row["searches"], **anew},
        "judges": judges.weights,
    }
