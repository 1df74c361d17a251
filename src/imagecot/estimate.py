"""How many GPU hours a recipe of full-size models takes, before anything is run.

Counted are the products of weights and tokens, 2 floating-point operations each; training takes three times a forward
pass, four with its activations computed anew. An A100 is taken to do 40 % of its 312 TFLOP/s in bfloat16. Detectors,
image decodes and loading are left out; they are small beside a generator of 1.4 B and a verifier of 8 B parameters.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from imagecot.errors import ImagecotError
from imagecot.models import parameters_of
from imagecot.reading import read_lines
from imagecot.recipes import kind_of

if TYPE_CHECKING:
    from imagecot.alignment.alignment import Alignment
    from imagecot.alignment.dpo import DpoRecipe
    from imagecot.alignment.iterate import IterativeRecipe
    from imagecot.alignment.self_correction import SelfCorrectionRecipe
    from imagecot.contracts.search import Strategy
    from imagecot.contracts.values import JSON
    from imagecot.reward_models.recipe import FineTuneRecipe
    from imagecot.study.recipe import SelfCorrection, StudyRecipe

FLOPS = 0.4 * 312e12
GENERATOR, VERIFIER = 1.4e9, 8.0e9  # parameters of Show-o and of LLaVA-OneVision 7B
CODES, TEXT = 256 + 2, 30  # tokens of an image between its marks, and of a prompt, in Show-o
JUDGED = 729 + 80  # tokens of an image and a question, seen by LLaVA-OneVision in a single view
STEPS, ROWS = 18, 2  # of a path; rows of a step, for guidance
FOLLOW_UP = 40  # tokens of a second turn
PAIRS, EXAMPLES, PROMPTS = 10_000, 100_000, 10_000  # where the data are not there yet

DRAW = 2 * GENERATOR * CODES * STEPS * ROWS  # one path; the text before it is computed once a prompt
JUDGE = 2 * VERIFIER * JUDGED


@dataclass(frozen=True)
class _Work:
    """What is known of a kind of recipe.

    flops    the operations of a recipe, and what they are for
    models   the names of those that must be full-size
    counted  their parameters
    """

    flops: "Callable[..., tuple[float, str]]"
    models: "Callable[..., Iterable[str]]"
    counted: float = GENERATOR


def gpu_hours(recipe: BaseModel) -> tuple[float, str] | None:
    """Hours on one A100 and what they are for; None where a recipe's models are not full-size.

    Of a search that does not run on models which only count, nobody knows either.
    """
    work = _WORKS.get(kind_of(recipe))
    if work is None or not _is_full_size(work.models(recipe), work.counted):
        return None
    try:
        flops, what = work.flops(recipe)
    except ImagecotError:
        return None
    return flops / FLOPS / 3600, what


def _is_full_size(models: Iterable[str], counted: float) -> bool:
    """Whether models have about as many parameters as is counted with; not where none is known here."""
    known = [size for size in map(parameters_of, models) if size]
    return bool(known) and all(counted / 2 <= size <= counted * 2 for size in known)


def _base(recipe: "DpoRecipe | IterativeRecipe | SelfCorrectionRecipe | FineTuneRecipe") -> list[str]:
    return [recipe.base]


def _generators(recipe: "StudyRecipe") -> list[str]:
    part = recipe.self_correction
    return [*recipe.generators.values(), *([part.correcting_generator] if part else [])]


def _training(recompute: bool) -> int:
    return 4 if recompute else 3


def _dpo(recipe: "DpoRecipe") -> tuple[float, str]:
    return _aligning(recipe.training, _rows(recipe.data) or PAIRS)


def _aligning(settings: "Alignment", pairs: int) -> tuple[float, str]:
    batch = settings.batch_size * settings.accumulate
    steps = settings.steps or settings.epochs * pairs / batch
    row = 2 * GENERATOR * (CODES + TEXT)
    trained = _training(settings.gradient_checkpointing) + 1  # and the reference
    flops = steps * batch * 2 * settings.draws * row * trained if settings.dpo_weight else 0.0
    what = f"{steps * batch:,.0f} pairs" if settings.dpo_weight else f"{steps:,.0f} steps"
    online = settings.online
    if online and online.weight:
        paths = steps * online.prompts_a_step * online.group
        asked = 2 if online.reward == "mean" else 1
        flops += paths * (DRAW + asked * JUDGE + online.draws * ROWS * row * trained)
        what += f", {paths:,.0f} paths for rewards"
    return flops, what


def _rounds(recipe: "IterativeRecipe") -> tuple[float, str]:
    prompts = _lines(recipe.prompts) or PROMPTS
    drawn = prompts * recipe.paths
    flops, what = _aligning(recipe.training, recipe.pairs or prompts * recipe.per_prompt)
    return recipe.rounds * (drawn * DRAW + flops), f"{recipe.rounds} round of {drawn:,} paths and {what}"


def _self_correction(recipe: "SelfCorrectionRecipe") -> tuple[float, str]:
    images = recipe.optimization.steps * recipe.optimization.batch_size
    corrected = images * (1 - recipe.plain_share)
    tokens = images * (CODES + TEXT) + corrected * (CODES + TEXT)  # the rejected image and the reasons
    return 2 * GENERATOR * tokens * _training(False), f"{images:,} images"


def _fine_tuning(recipe: "FineTuneRecipe") -> tuple[float, str]:
    rows = sum(_rows(source.folder) or EXAMPLES for source in recipe.data)
    examples = rows * recipe.epochs
    return examples * JUDGE * _training(recipe.gradient_checkpointing), f"{examples:,.0f} examples"


def _study(recipe: "StudyRecipe") -> tuple[float, str]:
    from imagecot.study.recipe import prompts

    recipe = recipe.resolved()
    n, timed = recipe.n, recipe.timed_prompts
    every = len(prompts(recipe.detector, recipe.prompts_per_task, recipe.world))
    flops = 0.0
    for key in recipe.generators:
        rows = recipe.rows_of(key).values()
        flops += every * recipe.pool(key) * DRAW if rows else 0.0
        for row in rows:
            asked = len(prompts(recipe.detector, row.prompts_per_task or recipe.prompts_per_task, recipe.world))
            drawn, judged = _search(row.how.strategy, row.options, n)
            flops += asked * (judged if row.how.replayed else drawn + judged)
            flops += timed * sum(sum(_search(row.how.strategy, row.options, size)) for size in row.sizes(n))
    if recipe.self_correction:
        flops += every * _corrections(recipe.self_correction, n)
    return flops, f"{every} prompts, {len(recipe.rows)} rows"


def _corrections(asked: "SelfCorrection", n: int) -> float:
    """Operations of a prompt in the study of reflection: both verifiers on n paths, and what is drawn beside them."""
    from imagecot.strategies.parm import Parm
    from imagecot.strategies.parm_plus_plus import ParmPlusPlus
    from imagecot.study.self_correction import ROUNDED

    (drawn, judged), corrected = (_search(search, asked.options, n) for search in (Parm(), ParmPlusPlus()))
    rounds = sum(corrected) - drawn - judged
    return 2 * judged + len(ROUNDED) * rounds + sum(_search(Parm(), asked.options, asked.more_paths))


def _search(strategy: "Strategy", options: "Mapping[str, JSON]", n: int) -> tuple[float, float]:
    """Operations of the generator, and of the verifier at most, in a search over n paths."""
    from imagecot.strategies.dry_run import Sizes, dry_run

    cost = dry_run(strategy, options, n, Sizes(STEPS, ROWS, JUDGED, FOLLOW_UP))
    return 2 * GENERATOR * CODES * cost.generator_rows, 2 * VERIFIER * cost.tokens_judged


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


_WORKS = {
    "dpo": _Work(_dpo, _base),
    "iterative-dpo": _Work(_rounds, _base),
    "self-correction": _Work(_self_correction, _base),
    "reward-model": _Work(_fine_tuning, _base, VERIFIER),
    "study": _Work(_study, _generators),
}
