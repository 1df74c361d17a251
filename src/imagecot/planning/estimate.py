"""What a recipe takes before anything is run: seconds of each model on one card, and what it leaves on disk.

What models cost is in `planning.costs`. `gpu_hours` leaves out detectors and image decodes, which are small beside
generators of a billion parameters and verifiers of 8.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from imagecot.errors import ImagecotError
from imagecot.models import parameters_of
from imagecot.planning.costs import (
    AT_ONCE,
    FULL_SIZE,
    Drawer,
    Effort,
    Search,
    Unknown,
    drawing,
    judge_of,
    low_rank,
    passes_of_training,
    read_seconds,
    scored,
    search_costs,
)
from imagecot.planning.rates import Rates
from imagecot.reading import read_lines
from imagecot.recipes import kind_of

if TYPE_CHECKING:
    from imagecot.alignment.alignment import Alignment
    from imagecot.alignment.dpo import DpoRecipe
    from imagecot.alignment.iterate import IterativeRecipe
    from imagecot.alignment.self_correction import SelfCorrectionRecipe
    from imagecot.contracts.values import JSON
    from imagecot.curation.recipes import CurateOrm, CurateParm, CuratePrm
    from imagecot.evaluation.recipe import EvaluationRecipe
    from imagecot.reward_models.recipe import FineTuneRecipe
    from imagecot.study.recipe import RowRecipe, SelfCorrection, StudyRecipe

PAIRS, EXAMPLES, PROMPTS = 10_000, 100_000, 10_000  # where the data are not there yet
CONTINUATIONS = 4  # of each step in the data of a PRM


def gpu_hours(recipe: BaseModel) -> tuple[float, str] | None:
    """Hours of generator, verifier and training on one A100, and what they are for; None where no `effort` is known."""
    found = effort(recipe, Rates())
    return None if found is None else ((found.drawn + found.judged + found.trained) / 3600, found.what)


def effort(recipe: BaseModel, on: Rates) -> Effort | None:
    """What a recipe takes; None where its models are neither full-size nor measured, or not known.

    Of a search that does not run on models which only count, nobody knows either.
    """
    work = _WORKS.get(kind_of(recipe))
    if work is None:
        return None
    try:
        return work(recipe, on)
    except (ImagecotError, Unknown):
        return None


def _dpo(recipe: "DpoRecipe", on: Rates) -> Effort:
    reference = recipe.reference not in (None, recipe.base) or recipe.training.lora is None
    return _aligning(recipe.training, _rows(recipe.data) or PAIRS, drawing(on, recipe.base), on, reference)


def _aligning(settings: "Alignment", pairs: int, drawer: Drawer, on: Rates, reference: bool = True) -> Effort:
    work, batch = drawer.work, settings.batch_size * settings.accumulate
    steps = settings.steps or settings.epochs * pairs / batch
    trained = passes_of_training(settings.gradient_checkpointing) + 1  # and the reference
    flops = on.card.flops
    seconds = steps * batch * 2 * scored(work, settings.draws) * trained / flops if settings.dpo_weight else 0.0
    what = f"{steps * batch:,.0f} pairs" if settings.dpo_weight else f"{steps:,.0f} steps"
    online, shared = settings.online, batch
    moved = low_rank(settings.lora, work.weights) if settings.lora else work.weights
    found = Effort(
        what,
        trained=seconds,
        steps=steps,
        shared=shared,
        loaded=work.weights,
        trains=moved,
        whole=work.weights - moved + (work.weights if reference else 0.0),
        pixels=drawer.pixels,
    )
    if not (online and online.weight):
        return found
    paths = steps * online.prompts_a_step * online.group
    judge, asked = judge_of(on, online.verifier), 2 if online.reward == "mean" else 1
    return replace(
        found,
        what=f"{what}, {paths:,.0f} paths for rewards",
        drawn=drawer.drawn(paths, online.group),
        judged=paths * judge.seconds(asked * judge.asking.judged),
        trained=seconds + paths * work.rows * scored(work, online.draws) * trained / flops,
        decoded=drawer.decoded(paths),
        loaded=work.weights + judge.weights,
        shared=min(shared, online.prompts_a_step * settings.accumulate) if settings.dpo_weight else shared,
    )


def _rounds(recipe: "IterativeRecipe", on: Rates) -> Effort:
    prompts, drawer = _lines(recipe.prompts) or PROMPTS, drawing(on, recipe.base)
    paths = prompts * recipe.paths
    one = _aligning(recipe.training, recipe.pairs or prompts * recipe.per_prompt, drawer, on)
    return replace(
        one,
        what=f"{recipe.rounds} round of {paths:,} paths and {one.what}",
        drawn=recipe.rounds * (one.drawn + drawer.drawn(paths, recipe.paths)),
        judged=recipe.rounds * one.judged,
        trained=recipe.rounds * one.trained,
        decoded=recipe.rounds * (one.decoded + drawer.decoded(paths)),
        read=recipe.rounds * read_seconds(on, paths, one.loaded),
        images=recipe.rounds * paths,
        steps=recipe.rounds * one.steps,
    )


def _self_correction(recipe: "SelfCorrectionRecipe", on: Rates) -> Effort:
    images, drawer = recipe.optimization.steps * recipe.optimization.batch_size, drawing(on, recipe.base)
    corrected = images * (1 - recipe.plain_share)
    seen = images + corrected  # the rejected image and the reasons
    return Effort(
        f"{images:,} images",
        trained=seen * scored(drawer.work) * passes_of_training(False) / on.card.flops,
        steps=recipe.optimization.steps,
        shared=recipe.optimization.batch_size,
        loaded=drawer.work.weights,
        trains=drawer.work.weights,
    )


def _fine_tuning(recipe: "FineTuneRecipe", on: Rates) -> Effort:
    judge = judge_of(on, recipe.base)
    if not parameters_of(recipe.base) or judge.weights < FULL_SIZE:
        raise Unknown
    examples = sum(_rows(source.folder) or EXAMPLES for source in recipe.data) * recipe.epochs
    passes, batch = passes_of_training(recipe.gradient_checkpointing), recipe.batch_size * recipe.accumulate
    moved = low_rank(recipe.lora, judge.weights) if recipe.lora else judge.weights
    return Effort(
        f"{examples:,.0f} examples",
        trained=passes * judge.seconds(examples * judge.asking.judged),
        steps=examples / batch,
        shared=batch,
        loaded=judge.weights,
        trains=moved,
        whole=judge.weights - moved,
    )


def _final_images(recipe: "CurateOrm | CurateParm", on: Rates) -> Effort:
    prompts, drawer = _lines(recipe.prompts) or PROMPTS, drawing(on, recipe.generator)
    paths = prompts * recipe.paths
    kept = prompts * min(recipe.keep, recipe.paths)
    found = _drawn_only(drawer, on, f"{paths:,} paths", paths, recipe.paths, kept)
    return replace(found, units=_units(prompts, recipe.paths))


def _units(prompts: int, each: int) -> int:
    """Units of a curation."""
    from imagecot.curation.job import UNIT

    return math.ceil(prompts / max(1, UNIT // each))


def _drawn_only(drawer: Drawer, on: Rates, what: str, paths: float, together: int, kept: float) -> Effort:
    return Effort(
        what,
        drawn=drawer.drawn(paths, together),
        decoded=drawer.decoded(paths),
        read=read_seconds(on, paths, drawer.work.weights),
        images=kept,
        pixels=drawer.pixels,
        loaded=drawer.work.weights,
        cached=drawer.cached(min(together, AT_ONCE)),
    )


def _continuations(recipe: "CuratePrm", on: Rates) -> Effort:
    prompts, drawer = _lines(recipe.prompts) or PROMPTS, drawing(on, recipe.generator)
    # After each step but the last four paths go on to the end: half of the steps on average.
    steps = drawer.work.steps
    ends = prompts * CONTINUATIONS * (steps - 1)
    found = _drawn_only(drawer, on, f"{prompts:,} prompts", ends, CONTINUATIONS, prompts * steps)
    seconds = drawer.drawn(prompts, 1) + drawer.drawn(ends / 2, CONTINUATIONS)
    return replace(found, drawn=seconds, units=_units(prompts, CONTINUATIONS))


def _geneval(recipe: "EvaluationRecipe", on: Rates) -> Effort:
    from imagecot.evaluation.drawing import Drawing as Draw
    from imagecot.evaluation.job import Job

    job = Job.of(recipe)
    if not isinstance(job.source, Draw):
        raise Unknown
    named, prompts = job.source.named, len(job.source.prompts)
    drawer, judge = drawing(on, str(recipe.generator)), judge_of(on, named.models.get("verifier"))
    settings = cast("Mapping[str, JSON]", recipe.settings)
    one = search_costs(named.search, settings, recipe.budget or recipe.n, drawer, judge)
    images, judged = prompts * recipe.samples, "verifier" in named.search.needs
    return Effort(
        f"{images:,} images of {prompts:,} prompts",
        drawn=images * one.drawn,
        judged=images * one.judged,
        decoded=images * one.decoded,
        read=read_seconds(on, images, drawer.work.weights),
        images=images,
        units=len(job.source.pieces),
        pixels=drawer.pixels,
        loaded=drawer.work.weights + (judge.weights if judged else 0.0),
        cached=drawer.cached(min(recipe.n, AT_ONCE)),
    )


def _study(recipe: "StudyRecipe", on: Rates) -> Effort:
    from imagecot.study.recipe import prompts

    recipe = recipe.resolved()
    n, timed, part = recipe.n, recipe.timed_prompts, recipe.self_correction
    every = len(prompts(recipe.detector, recipe.prompts_per_task, recipe.world)) * recipe.draws
    found = Effort(f"{every} prompts, {len(recipe.rows)} rows")
    names = [*recipe.generators.values(), *([part.correcting_generator] if part else [])]
    for key, name in recipe.generators.items():
        drawer, rows = drawing(on, name, *names), recipe.rows_of(key).values()
        pool = recipe.pool(key) if rows else 0
        total = Search(every * drawer.drawn(pool, pool), 0.0, every * drawer.decoded(pool)) if rows else Search()
        for row in rows:
            asked = len(prompts(recipe.detector, row.prompts_per_task or recipe.prompts_per_task, recipe.world))
            one = _row(row, n, drawer, on)
            total += one.times(asked * recipe.draws, drawn=not row.how.replayed)
            for size in row.sizes(n):
                total += _row(row, size, drawer, on).times(timed)
        found = _with(found, total, drawer, every * pool, judge_of(on, *(row.verifier for row in rows)).weights, every)
    if part:
        drawer = drawing(on, part.correcting_generator, *names)
        found = _with(found, _corrections(part, n, drawer, on).times(every), drawer, every * n, 0.0, every)
    return replace(found, read=read_seconds(on, found.codes, found.loaded))


def _with(found: Effort, more: "Search", drawer: Drawer, paths: float, judge: float, units: int) -> Effort:
    return replace(
        found,
        drawn=found.drawn + more.drawn,
        judged=found.judged + more.judged,
        decoded=found.decoded + more.decoded,
        codes=found.codes + paths,
        units=found.units + (units if paths else 0),
        pixels=drawer.pixels,
        loaded=max(found.loaded, drawer.work.weights + judge),
        cached=max(found.cached, drawer.cached(AT_ONCE)),
    )


def _row(row: "RowRecipe", n: int, drawer: Drawer, on: Rates) -> Search:
    return search_costs(row.how.strategy, row.options, n, drawer, judge_of(on, row.verifier))


def _corrections(asked: "SelfCorrection", n: int, drawer: Drawer, on: Rates) -> Search:
    """A prompt in the study of reflection: both verifiers on n paths, and what is drawn beside them."""
    from imagecot.strategies.parm import Parm
    from imagecot.strategies.parm_plus_plus import ParmPlusPlus
    from imagecot.study.self_correction import ROUNDED

    judge = judge_of(on, asked.parm, asked.orm)
    plain, corrected, more = (
        search_costs(search, asked.options, count, drawer, judge)
        for search, count in ((Parm(), n), (ParmPlusPlus(), n), (Parm(), asked.more_paths))
    )
    rounds = corrected + plain.times(-1)
    return Search(0.0, 2 * plain.judged) + rounds.times(len(ROUNDED)) + more


def _rows(folder: Path | None) -> int:
    """The rows of a curated folder; 0 where it is not there or cannot be read."""
    if folder is None:
        return 0
    from pyarrow import parquet

    try:
        return sum(parquet.read_metadata(file).num_rows for file in sorted(Path(folder).glob("data/*.parquet")))
    except (OSError, ValueError):  # damaged: who follows the recipe is told
        return 0


def _lines(file: Path) -> int:
    try:
        return sum(1 for _ in read_lines(Path(file)))
    except ImagecotError:
        return 0


_WORKS: "Mapping[str, Callable[..., Effort]]" = {
    "geneval": _geneval,
    "dpo": _dpo,
    "iterative-dpo": _rounds,
    "self-correction": _self_correction,
    "reward-model": _fine_tuning,
    "study": _study,
    "curate-orm": _final_images,
    "curate-parm": _final_images,
    "curate-prm": _continuations,
}
