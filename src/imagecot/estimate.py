"""How many GPU hours a recipe of full-size models takes, before anything is run.

Counted are the products of weights and tokens, 2 floating-point operations each; training takes three times a forward
pass, four with its activations computed anew. An A100 is taken to do 40 % of its 312 TFLOP/s in bfloat16. Detectors,
image decodes and loading are left out; they are small beside a generator of 1.4 B and a verifier of 8 B parameters.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from imagecot.errors import ImagecotError
from imagecot.models import parameters_of
from imagecot.reading import read_lines

if TYPE_CHECKING:
    from imagecot.contracts.search import Strategy
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


def gpu_hours(kind: str, recipe: BaseModel) -> tuple[float, str] | None:
    """Hours on one A100 and what they are for, of a recipe of a kind; None where its models are not full-size.

    Of a search that does not run on models which only count, nobody knows either.

    kind  as `imagecot validate` says it
    """
    values = recipe.model_dump()
    works: dict[str, Callable[[Any], tuple[float, str]]] = {
        "dpo": _dpo,
        "dpo (iterative)": _rounds,
        "self-correction": _self_correction,
        "verifier (fine-tuning)": _fine_tuning,
        "study": _study,
    }
    if kind not in works or not _is_full_size(kind, values):
        return None
    try:
        flops, what = works[kind](recipe if kind == "study" else values)
    except ImagecotError:
        return None
    return flops / FLOPS / 3600, what


def _is_full_size(kind: str, values: Mapping[str, Any]) -> bool:
    """Whether the models of a recipe have about as many parameters as is counted with; not where none is known here."""
    named = [values.get("base", ""), *values.get("generators", {}).values()]
    named.append((values.get("self_correction") or {}).get("correcting_generator", ""))
    known = [size for size in map(parameters_of, map(str, named)) if size]
    counted = VERIFIER if kind == "verifier (fine-tuning)" else GENERATOR
    return bool(known) and all(counted / 2 <= size <= counted * 2 for size in known)


def _training(recompute: bool) -> int:
    return 4 if recompute else 3


def _dpo(values: Mapping[str, Any], rows: int | None = None) -> tuple[float, str]:
    settings = values["training"]
    pairs = rows or _rows(values.get("data")) or PAIRS
    batch = settings["batch_size"] * settings["accumulate"]
    steps = settings["steps"] or settings["epochs"] * pairs / batch
    row = 2 * GENERATOR * (CODES + TEXT)
    trained = _training(settings["gradient_checkpointing"]) + 1  # and the reference
    flops = steps * batch * 2 * settings["draws"] * row * trained if settings["dpo_weight"] else 0.0
    what = f"{steps * batch:,.0f} pairs" if settings["dpo_weight"] else f"{steps:,.0f} steps"
    online = settings["online"]
    if online and online["weight"]:
        paths = steps * online["prompts_a_step"] * online["group"]
        asked = 2 if online["reward"] == "mean" else 1
        flops += paths * (DRAW + asked * JUDGE + online["draws"] * ROWS * row * trained)
        what += f", {paths:,.0f} paths for rewards"
    return flops, what


def _rounds(values: Mapping[str, Any]) -> tuple[float, str]:
    prompts = _lines(values["prompts"]) or PROMPTS
    drawn = prompts * values["paths"]
    flops, what = _dpo(values, values["pairs"] or prompts * values["per_prompt"])
    return values["rounds"] * (drawn * DRAW + flops), f"{values['rounds']} round of {drawn:,} paths and {what}"


def _self_correction(values: Mapping[str, Any]) -> tuple[float, str]:
    settings = values["optimization"]
    images = settings["steps"] * settings["batch_size"]
    corrected = images * (1 - values["plain_share"])
    tokens = images * (CODES + TEXT) + corrected * (CODES + TEXT)  # the rejected image and the reasons
    return 2 * GENERATOR * tokens * _training(False), f"{images:,} images"


def _fine_tuning(values: Mapping[str, Any]) -> tuple[float, str]:
    rows = sum(_rows(source["folder"]) or EXAMPLES for source in values["data"])
    examples = rows * values["epochs"]
    return examples * JUDGE * _training(values["gradient_checkpointing"]), f"{examples:,.0f} examples"


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


def _search(strategy: "Strategy", options: Mapping[str, Any], n: int) -> tuple[float, float]:
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
