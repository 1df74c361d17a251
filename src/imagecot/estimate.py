"""How many GPU hours a recipe of full-size models takes, before anything is run.

Counted are the products of weights and tokens, 2 floating-point operations each; training takes three times a forward
pass, four with its activations computed anew. An A100 of 80 GB is taken to do 40 % of its 312 TFLOP/s in bfloat16. In
raster order every code takes a pass of its own, which reads all weights and what paths keep of the codes before; where
that takes longer at 70 % of 2.04 TB/s than the products, as with few paths at once, it is what counts. Detectors, image
decodes, text encoders and loading are left out; they are small beside generators of a billion parameters and verifiers
of 8. Verifiers that are not known are taken for LLaVA-OneVision 7B.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from pydantic import BaseModel

from imagecot.adapters import lineage
from imagecot.errors import ImagecotError
from imagecot.families import FAMILIES, Family
from imagecot.generators.work import Drawing
from imagecot.hub import locate
from imagecot.models import base_config, parameters_of
from imagecot.reading import read_lines
from imagecot.recipes import kind_of
from imagecot.verifiers.work import ONE_VIEW, Asking

if TYPE_CHECKING:
    from imagecot.alignment.alignment import Alignment
    from imagecot.alignment.dpo import DpoRecipe
    from imagecot.alignment.iterate import IterativeRecipe
    from imagecot.alignment.self_correction import SelfCorrectionRecipe
    from imagecot.contracts.search import Strategy
    from imagecot.contracts.values import JSON
    from imagecot.curation.recipes import CurateOrm, CurateParm, CuratePrm
    from imagecot.reward_models.recipe import FineTuneRecipe
    from imagecot.study.recipe import RowRecipe, SelfCorrection, StudyRecipe

FLOPS, BANDWIDTH = 0.4 * 312e12, 0.7 * 2.04e12  # operations and bytes a second
VERIFIER = 8.0e9  # parameters of LLaVA-OneVision 7B
FULL_SIZE = 1e8  # weights from which hours of an A100 mean anything
BYTES = 2  # of a number in bfloat16
AT_ONCE = 256  # paths that a search draws together at most
PAIRS, EXAMPLES, PROMPTS = 10_000, 100_000, 10_000  # where the data are not there yet
CONTINUATIONS = 4  # of each step in the data of a PRM


class _Unknown(Exception):
    """A model of which nothing tells what it costs, or one that is small."""


@dataclass(frozen=True)
class _Judge:
    """A verifier: its parameters, and the tokens that it reads."""

    weights: float
    asking: Asking

    def seconds(self, tokens: float) -> float:
        """What reading so many tokens takes."""
        return 2 * self.weights * tokens / FLOPS


def gpu_hours(recipe: BaseModel) -> tuple[float, str] | None:
    """Hours on one A100 and what they are for; None where a recipe's models are not full-size, or not known.

    Of a search that does not run on models which only count, nobody knows either.
    """
    work = _WORKS.get(kind_of(recipe))
    if work is None:
        return None
    try:
        seconds, what = work(recipe)
    except (ImagecotError, _Unknown):
        return None
    return seconds / 3600, what


def drawing_of(name: str) -> Drawing | None:
    """What a generator costs by the sizes of its folder, an adapter's by its base's, or a released one by its name.

    ImagecotError where its folder cannot be read.
    """
    folder = _folder(name)
    for family in _families("generator", name, folder):
        found: Drawing | None = resolve_name(family.work)(name, folder)
        if found is not None:
            return found
    return None


def _folder(name: str) -> Path | None:
    folder = locate(name)
    return None if folder is None else lineage(folder, locate)[0]


def _families(role: str, name: str, folder: Path | None) -> list[Family]:
    """The families that a model may be of, as far as they say what it costs: by its folder, or any by its name."""
    config = base_config(name) if folder else {}
    return [one for one in FAMILIES[role] if one.work and (one.claims(config) is not False if folder else True)]


def _drawing(*names: str) -> Drawing:
    """What generators cost, by the first that is known: others are made of it, and perhaps not there yet."""
    found = next(filter(None, map(drawing_of, names)), None)
    if found is None or found.weights < FULL_SIZE:
        raise _Unknown
    return found


def _judge(*names: str | None) -> _Judge:
    """What verifiers cost, by the first that is known."""
    for name in filter(None, names):
        weights = parameters_of(name)
        if weights:
            folder = _folder(name)
            said = [one for one in _families("verifier", name, folder) if folder or name in one.names]
            asking: Asking = resolve_name(said[0].work) if said else ONE_VIEW
            return _Judge(weights, asking)
    return _Judge(VERIFIER, ONE_VIEW)


def drawn(work: Drawing, paths: float, together: float) -> float:
    """Seconds of drawing so many paths, so many of them at once."""
    rows = paths * work.rows
    products = 2 * work.weights * work.tokens * work.steps * rows / FLOPS
    if work.kept is None:
        return products
    before = work.text + work.codes / 2  # the mean of what a code attends to
    read = math.ceil(paths / together) * work.weights + rows * before * work.kept
    return max(products, work.codes * read * BYTES / BANDWIDTH)


def _scored(work: Drawing, draws: int = 1) -> float:
    """Operations of a forward pass that gives the log-probability of an image; masks are a pass each."""
    passes, seen = (draws, work.tokens) if work.masked else (1, work.codes)
    return 2 * work.weights * (seen + work.text) * passes


def _training(recompute: bool) -> int:
    return 4 if recompute else 3


def _dpo(recipe: "DpoRecipe") -> tuple[float, str]:
    return _aligning(recipe.training, _rows(recipe.data) or PAIRS, _drawing(recipe.base))


def _aligning(settings: "Alignment", pairs: int, work: Drawing) -> tuple[float, str]:
    batch = settings.batch_size * settings.accumulate
    steps = settings.steps or settings.epochs * pairs / batch
    trained = _training(settings.gradient_checkpointing) + 1  # and the reference
    seconds = steps * batch * 2 * _scored(work, settings.draws) * trained / FLOPS if settings.dpo_weight else 0.0
    what = f"{steps * batch:,.0f} pairs" if settings.dpo_weight else f"{steps:,.0f} steps"
    online = settings.online
    if online and online.weight:
        paths = steps * online.prompts_a_step * online.group
        judge, asked = _judge(online.verifier), 2 if online.reward == "mean" else 1
        seconds += drawn(work, paths, online.group) + paths * judge.seconds(asked * judge.asking.judged)
        seconds += paths * work.rows * _scored(work, online.draws) * trained / FLOPS
        what += f", {paths:,.0f} paths for rewards"
    return seconds, what


def _rounds(recipe: "IterativeRecipe") -> tuple[float, str]:
    prompts, work = _lines(recipe.prompts) or PROMPTS, _drawing(recipe.base)
    paths = prompts * recipe.paths
    seconds, what = _aligning(recipe.training, recipe.pairs or prompts * recipe.per_prompt, work)
    return recipe.rounds * (drawn(work, paths, recipe.paths) + seconds), (
        f"{recipe.rounds} round of {paths:,} paths and {what}"
    )


def _self_correction(recipe: "SelfCorrectionRecipe") -> tuple[float, str]:
    images, work = recipe.optimization.steps * recipe.optimization.batch_size, _drawing(recipe.base)
    corrected = images * (1 - recipe.plain_share)
    seen = images + corrected  # the rejected image and the reasons
    return seen * _scored(work) * _training(False) / FLOPS, f"{images:,} images"


def _fine_tuning(recipe: "FineTuneRecipe") -> tuple[float, str]:
    judge = _judge(recipe.base)
    if not parameters_of(recipe.base) or judge.weights < FULL_SIZE:
        raise _Unknown
    examples = sum(_rows(source.folder) or EXAMPLES for source in recipe.data) * recipe.epochs
    passes = _training(recipe.gradient_checkpointing)
    return passes * judge.seconds(examples * judge.asking.judged), f"{examples:,.0f} examples"


def _final_images(recipe: "CurateOrm | CurateParm") -> tuple[float, str]:
    prompts = _lines(recipe.prompts) or PROMPTS
    paths = prompts * recipe.paths
    return drawn(_drawing(recipe.generator), paths, recipe.paths), f"{paths:,} paths"


def _continuations(recipe: "CuratePrm") -> tuple[float, str]:
    prompts, work = _lines(recipe.prompts) or PROMPTS, _drawing(recipe.generator)
    # After each step but the last four paths go on to the end: half of the steps on average.
    continued = prompts * CONTINUATIONS * (work.steps - 1) / 2
    return drawn(work, prompts, 1) + drawn(work, continued, CONTINUATIONS), f"{prompts:,} prompts"


def _study(recipe: "StudyRecipe") -> tuple[float, str]:
    from imagecot.study.recipe import prompts

    recipe = recipe.resolved()
    n, timed, part = recipe.n, recipe.timed_prompts, recipe.self_correction
    every = len(prompts(recipe.detector, recipe.prompts_per_task, recipe.world))
    seconds = 0.0
    names = [*recipe.generators.values(), *([part.correcting_generator] if part else [])]
    for key, name in recipe.generators.items():
        work, rows = _drawing(name, *names), recipe.rows_of(key).values()
        pool = recipe.pool(key)
        seconds += every * drawn(work, pool, pool) if rows else 0.0
        for row in rows:
            asked = len(prompts(recipe.detector, row.prompts_per_task or recipe.prompts_per_task, recipe.world))
            found = _row(row, n, work)
            seconds += asked * (found.judged if row.how.replayed else found.drawn + found.judged)
            for size in row.sizes(n):
                one = _row(row, size, work)
                seconds += timed * (one.drawn + one.judged)
    if part:
        seconds += every * _corrections(part, n, _drawing(part.correcting_generator, *names))
    return seconds, f"{every} prompts, {len(recipe.rows)} rows"


@dataclass(frozen=True)
class _Search:
    """Seconds of a search: what the generator takes, and the verifier at most."""

    drawn: float
    judged: float


def _row(row: "RowRecipe", n: int, work: Drawing) -> _Search:
    return _search(row.how.strategy, row.options, n, work, _judge(row.verifier))


def _corrections(asked: "SelfCorrection", n: int, work: Drawing) -> float:
    """Seconds of a prompt in the study of reflection: both verifiers on n paths, and what is drawn beside them."""
    from imagecot.strategies.parm import Parm
    from imagecot.strategies.parm_plus_plus import ParmPlusPlus
    from imagecot.study.self_correction import ROUNDED

    judge = _judge(asked.parm, asked.orm)
    plain, corrected, more = (
        _search(search, asked.options, count, work, judge)
        for search, count in ((Parm(), n), (ParmPlusPlus(), n), (Parm(), asked.more_paths))
    )
    rounds = corrected.drawn + corrected.judged - plain.drawn - plain.judged
    return 2 * plain.judged + len(ROUNDED) * rounds + more.drawn + more.judged


def _search(strategy: "Strategy", options: "Mapping[str, JSON]", n: int, work: Drawing, judge: _Judge) -> _Search:
    """Seconds of a search over n paths."""
    from imagecot.strategies.dry_run import Sizes, dry_run

    cost = dry_run(strategy, options, n, Sizes(work.steps, work.rows, judge.asking.judged, judge.asking.follow_up))
    paths = cost.generator_rows / (work.steps * work.rows)
    return _Search(drawn(work, paths, max(1, min(strategy.paths(n), AT_ONCE))), judge.seconds(cost.tokens_judged))


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


_WORKS: "Mapping[str, Callable[..., tuple[float, str]]]" = {
    "dpo": _dpo,
    "iterative-dpo": _rounds,
    "self-correction": _self_correction,
    "reward-model": _fine_tuning,
    "study": _study,
    "curate-orm": _final_images,
    "curate-parm": _final_images,
    "curate-prm": _continuations,
}
