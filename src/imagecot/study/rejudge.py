"""Verdicts of judges that have changed since the paths of a study were drawn: made anew from the paths' codes."""

import torch
from rich.console import Console
from rich.progress import track

from imagecot import interruption
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.errors import ImagecotError
from imagecot.generators import load_generator
from imagecot.memory import is_out_of_memory
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
        judges = judges or Judges.load(recipe.detector)
        stale = [row for row in rows if row.get("judges") != judges.weights]
        if any("codes" not in row for row in stale):
            raise ImagecotError(
                f"{store.file} was judged by other weights and keeps no codes; delete {recipe.output} to draw it anew."
            )
        if stale:
            generator = load_generator(recipe.generators[key], dtype=recipe.precision)
            for row in track(stale, f"judging {key} again", console=console, disable=not console.is_terminal):
                interruption.check()
                try:
                    store.keep(judged_by(judges, row, generator))
                except (IndexError, RuntimeError) as error:
                    if is_out_of_memory(error):
                        raise
                    where = f"row {row['number']} of {store.file}"
                    raise ImagecotError(f"{where} has codes that {key} cannot draw; {ADVICE}.") from error


@torch.no_grad()
def judged_by(judges: Judges, row: Row, generator: Generator) -> Row:
    """A row of a pool with the verdicts of `judges` on the images that its codes stand for."""
    kept = {name: found for name, found in row["searches"].items() if "codes" in found}
    codes = torch.tensor([*row["codes"], *(found["codes"] for found in kept.values())])
    nothing = torch.zeros(len(codes), dtype=torch.int64)
    images = generator.preview(Paths(codes, codes, nothing, nothing, generator.steps, generator.steps))
    paths = len(row["codes"])
    verdicts = judges.look(images, row["metadata"])
    correct = [[verdict.correct for verdict in found] for found in verdicts]
    anew = {
        name: {**found, "correct": [said[paths + k] for said in correct]}
        for k, (name, found) in enumerate(kept.items())
    }
    return {
        **row,
        "correct": [said[:paths] for said in correct],
        "reasons": [verdict.reason for verdict in verdicts[0][:paths]],
        "searches": {**row["searches"], **anew},
        "judges": judges.weights,
    }
