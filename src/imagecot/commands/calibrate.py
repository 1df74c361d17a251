"""`imagecot calibrate`: choose the settings of searches for a generator and a verifier, on recorded paths."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagecot.commands import options
from imagecot.commands.options import AsJson
from imagecot.commands.output import completion, terminal
from imagecot.interruption import continuing
from imagecot.naming import printable
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagecot.calibration import Calibration, CalibrationRecipe
    from imagecot.calibration.compare import Compared
    from imagecot.calibration.follow import Chosen

_COLUMNS = "rows", "judge calls", "previews", "seconds", "in batches", "points"

Searches = Annotated[
    list[str],
    typer.Argument(
        metavar="SEARCH...",
        help="Names of searches, or module:Class of one that has trials.",
        autocompletion=completion("search"),
        show_default=False,
    ),
]
Generator = Annotated[str, typer.Option(help="Who draws.", autocompletion=completion("generator"), show_default=False)]
Verifier = Annotated[
    str,
    typer.Option(
        help=f"Who judges in the searches: a name, or {options.written()}.",
        autocompletion=completion("verifier"),
        show_default=False,
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="The name of a world, whose training prompts are taken, or a file: a line of metadata for each prompt, "
        "with --judge a prompt a line. Test prompts are refused. Default: those of the generator's world.",
        show_default=False,
    ),
]
PerTask = Annotated[int, typer.Option(help="Training prompts of each task of a world.", callback=options.PROMPTS)]
N = Annotated[int, typer.Option("-n", help="Paths of each prompt, and of best-of-n, with which all is compared.")]
Seed = Annotated[int, typer.Option(help="The same seed draws the same paths.", callback=options.SEED)]
FirstStep = Annotated[
    int | None,
    typer.Option(
        help="Judge the previews from this step on; with all steps of a path no previews, which is enough for adaptive "
        "without keep. Default: a quarter of the steps.",
        show_default=False,
    ),
]
Detector = Annotated[
    str | None,
    typer.Option(
        help="Who says which images are right. Default: the detectors of the generator's world.",
        autocompletion=completion("detector"),
        show_default=False,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="A verifier that says it instead, by its P(yes), where there is no detector for the prompts. With the "
        "verifier itself a loss is one of its own score, and what it gets wrong stays unseen.",
        autocompletion=completion("verifier"),
        show_default=False,
    ),
]
Pools = Annotated[
    Path | None,
    typer.Option(
        help="Take the paths of this study's folder instead of drawing any; of an audit with its previews. Its prompts "
        "are test prompts, so nothing is written.",
        show_default=False,
    ),
]
Orders = Annotated[int, typer.Option(help="Orders in which the paths of each prompt are drawn.")]
Loss = Annotated[float, typer.Option(help="Points of best-of-n's score that may be lost, one standard error on top.")]
Precision = Annotated[str | None, typer.Option(help=f"Of all models: {', '.join(PRECISIONS)}.", show_default=False)]
Out = Annotated[Path, typer.Option(help="The folder of the paths, with which the same command goes on.")]
Write = Annotated[
    bool, typer.Option("--write", help="Write the advice into the verifier's search_config.json, which searches read.")
]
Advice = Annotated[Path | None, typer.Option(help="Write the advice to a file of its own.", show_default=False)]


def calibrate(
    searches: Searches,
    *,
    generator: Generator,
    verifier: Verifier,
    prompts: Prompts = None,
    per_task: PerTask = 12,
    n: N = 20,
    seed: Seed = 77,
    first_step: FirstStep = None,
    detector: Detector = None,
    judge: Judge = None,
    pools: Pools = None,
    orders: Orders = 40,
    loss: Loss = 1.0,
    precision: Precision = None,
    out: Out = Path("runs/calibration"),
    write: Write = False,
    advice: Advice = None,
    as_json: AsJson = False,
) -> None:
    """Choose the settings of searches for a generator and its verifier: the fastest that lose little.

    The paths of training prompts are drawn once, and judged on their way. Then every setting is replayed on them, and
    compared with best-of-n of the same paths. Of those whose loss, one standard error on top, is at most --loss points,
    the fastest is advised. An interrupted run is resumed by the same command.

    Examples:

      imagecot calibrate adaptive hierarchical --generator tiny --verifier tiny-orm --precision bfloat16

      imagecot calibrate parm --generator tiny --verifier tiny-parm --loss 2 --write

      imagecot calibrate adaptive --generator my/model --verifier self --prompts prompts.txt --judge owner/vlm

      imagecot calibrate adaptive --generator tiny --verifier tiny-orm --pools runs/study/audit --json
    """
    from imagecot.calibration.recipe import CalibrationRecipe
    from imagecot.recipes import check

    check_precision(precision)
    asked = {
        "searches": searches,
        "generator": generator,
        "verifier": verifier,
        "output": out,
        "prompts": prompts,
        "per_task": per_task,
        "n": n,
        "seed": seed,
        "first_step": first_step,
        "detector": detector,
        "judge": judge,
    }
    asked |= {"orders": orders, "loss": loss, "pools": pools, "precision": precision}
    recipe = check(asked, CalibrationRecipe, "what was asked for")
    _check_place(recipe.verifier, generator, write, pools)
    found = _followed(recipe)
    typer.echo(json.dumps(found.as_json(), ensure_ascii=False) if as_json else "\n".join(_lines(found)))
    _keep(found, write, advice, as_json)


def _followed(recipe: "CalibrationRecipe") -> "Calibration":
    with terminal().waiting("loading"):
        from imagecot.calibration import calibrate as run

    with continuing(f"the same command with --out {recipe.output} continues where this run was"):
        return run(recipe, watch=terminal())


def _check_place(verifier: str, generator: str, write: bool, pools: Path | None) -> None:
    """Raise UsageError, before anything is drawn, where advice could not be written."""
    from imagecot.calibration.advice import place_of
    from imagecot.errors import UsageError
    from imagecot.judging import judge_named

    if write and pools is not None:
        raise UsageError(
            "the paths of a study are of test prompts, so that nothing that is chosen on them is written; leave out "
            "--write or --pools."
        )
    if write:
        place_of(judge_named(verifier, generator))


def _keep(found: "Calibration", write: bool, file: Path | None, as_json: bool) -> None:
    """Write the advice where it is wanted, else say how it is used."""
    from imagecot.calibration.advice import snippet, write_advice, write_snippet

    told = []
    if write:
        told.append(f"{write_advice(found.verifier, found.advice)} says so from now on")
    if file is not None:
        write_snippet(file, found.advice)
        told.append(str(file))
    if not told:
        told = ["for search_config.json in the verifier's folder (--write puts it there):", snippet(found.advice)]
    if not as_json:
        typer.echo(printable("\n".join(told)) if write or file else "\n".join(told))


def _lines(found: "Calibration") -> list[str]:
    """What was found, for people."""
    recipe = found.recipe
    lines = [
        f"{recipe.generator}, {found.verifier}: {found.prompts} prompts, {recipe.n} paths of each, {recipe.orders} "
        f"orders; images judged by {found.judged_by}."
    ]
    if found.by_itself:
        lines.append(
            "The verifier judges itself: points are of its own P(yes), of which best-of-n has the most there is, and "
            "what it gets wrong is not seen."
        )
    if found.held_out:
        lines.append("These are test prompts: what is chosen on them must not be scored on them.")
    best = 100 * float(found.found[0].taken.best.right[0].mean())
    lines.append(
        f"best-of-{recipe.n} scores {best:.1f}. rows, seconds: share of what it takes, of one search alone and where "
        "searches share batches; points: to its score, standard error by prompt."
    )
    for one in found.found:
        lines += ["", *_table(one, recipe.loss)]
    return [printable(line) for line in lines]


def _table(found: "Chosen", loss: float) -> "Sequence[str]":
    """The frontier of a search, and the rule's choice."""
    shown = [*found.frontier, *([found.taken] if found.taken not in found.frontier else [])]
    names = list(dict.fromkeys(name for one in shown for name in one.tried.settings))
    judges = len(found.taken.differences)
    head = [found.search, *names, *_COLUMNS, *(["second judge"] if judges > 1 else [])]
    rows = [head]
    for one in shown:
        told = [str(one.tried.settings.get(name, "")) for name in names]
        rows.append(["->" if one is found.taken else "", *told, *_cells(one)])
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    taken = found.taken
    bound = taken.error() - taken.difference()
    rule = "the fastest that loses" if bound <= loss else "nothing loses so little, this the least:"
    lines.append(f"-> {rule} at most {loss:g} points with a standard error on top; {len(found.tried)} settings tried.")
    if found.left_out:
        lines.append(f"{found.left_out} more ask what is not recorded, such as previews of earlier steps.")
    if found.checked:
        points, error, seconds = found.checked
        lines.append(
            f"Chosen by half of the prompts and scored on the others: {points:+.1f} ({error:.1f}) points at "
            f"{seconds:.2f} of the seconds."
        )
    return lines


def _line(row: "Sequence[str]", widths: "Sequence[int]") -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _cells(one: "Compared") -> list[str]:
    from imagecot.calibration.compare import ALONE, CALLS, PREVIEWS, ROWS, TOGETHER

    points = [f"{one.difference(k):+.1f} ({one.error(k):.1f})" for k in range(len(one.differences))]
    return [
        f"{one.share(ROWS):.2f}",
        f"{one.each(CALLS):.1f}",
        f"{one.each(PREVIEWS):.1f}",
        f"{one.share(ALONE):.2f}",
        f"{one.share(TOGETHER):.2f}",
        *points[:2],
    ]
