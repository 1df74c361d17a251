"""The folder of a study: which study it belongs to, and where its rows are kept.

It is compared before anything is loaded, and claimed only when the first result is written, so that a mistaken command
leaves no trace. Every row that is read must belong to the study: a prompt of it, by its searches and judges.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.files import make_folder, make_own_folder, write_text
from imagecot.identity import Identity, read_identity, refuse_occupied, refuse_other
from imagecot.study import self_correction
from imagecot.study.known import Weights
from imagecot.study.recipe import RowRecipe, StudyRecipe, Unit, due, units
from imagecot.study.rows import Outcome, PoolRow, SelfCorrectionRow
from imagecot.study.store import Store
from imagecot.worlds.find import judges_of

STUDY = "study.json"
CANDIDATES, SELF_CORRECTION = "candidates", "self_correction"


def check_folder(recipe: StudyRecipe, weights: Weights) -> None:
    """Raise UsageError where `recipe.output` holds something else, or another study; nothing is written."""
    shared, parts = identity(recipe, weights)
    refuse_occupied(recipe.output / STUDY, shared, "study")
    kept = _parts(recipe)
    known = {name: _known(name, kept[name], part) for name, part in parts.items() if name in kept}
    refuse_other(recipe.output, kept, known, "study")
    for key in recipe.generators:
        if _begun(recipe.output / CANDIDATES, key) and not {f"generators.{key}", f"rows of {key}"} <= kept.keys():
            raise UsageError(
                f"{recipe.output / STUDY} is damaged: parts say nothing of {key}, which has rows; "
                f"delete {recipe.output} or choose another folder."
            )


def _known(name: str, kept: JSON, asked: JSON) -> JSON:
    """What is asked for; of digests what was kept where that says less, as not every version took all of them."""
    if name.startswith("weights of ") and isinstance(kept, dict) and isinstance(asked, dict):
        return kept if kept and kept.items() <= asked.items() else asked
    return asked


def _begun(folder: Path, name: str) -> bool:
    return any((folder / f"{name}.{ending}").exists() for ending in ("jsonl", "parts"))


def claim_folder(recipe: StudyRecipe, weights: Weights, within: str = CANDIDATES) -> None:
    """Make `recipe.output` hold this study, with the folder `within` it; it may grow by generators, draws and Table 5.

    UsageError where something in it was made by another study.
    """
    check_folder(recipe, weights)
    shared, parts = identity(recipe, weights)
    kept = _parts(recipe)
    if not is_claimed(recipe) or kept | parts != kept:
        make_folder(recipe.output)
        write_text(recipe.output / STUDY, json.dumps({**shared, "parts": kept | parts}) + "\n")
    make_own_folder(recipe.output / within)


def is_claimed(recipe: StudyRecipe) -> bool:
    """Whether the folder holds a study already."""
    return (recipe.output / STUDY).is_file()


def _parts(recipe: StudyRecipe) -> dict[str, JSON]:
    file = recipe.output / STUDY
    if not file.is_file():
        return {}
    parts = read_identity(file).get("parts")
    if not isinstance(parts, dict):
        advice = f"delete {recipe.output} or choose another folder"
        raise UsageError(f"{file} is damaged: parts must be an object, not {json.dumps(parts)[:60]}; {advice}.")
    return parts


def identity(recipe: StudyRecipe, weights: Weights) -> tuple[Identity, dict[str, JSON]]:
    """What defines a study: what all of it shares, and its parts by name; both as JSON holds them."""
    apart = {"kind", "output", "draws", "generators", "rows", "self_correction"}
    shared = recipe.model_dump(mode="json", exclude=apart)
    parts: dict[str, JSON] = {}
    for role, models in weights.items():
        for name, digests in models.items():
            part = f"weights of {name}"
            parts[f"{part} among the {role}" if part in parts else part] = digests  # it may both draw and judge
    for key, name in recipe.generators.items():
        parts[f"generators.{key}"] = name
        parts[f"rows of {key}"] = {name: row.identity for name, row in recipe.rows_of(key).items()}
    if recipe.self_correction:
        parts["self_correction"] = recipe.self_correction.model_dump()
    return shared, json.loads(json.dumps(parts))


def stores(recipe: StudyRecipe, weights: Weights) -> dict[str, Store[PoolRow]]:
    """Where the rows of each generator are kept."""
    places: dict[str, dict[int, Unit]] = {key: {} for key in recipe.generators}
    for unit in units(recipe):
        places[unit.generator][unit.number] = unit
    claim = partial(claim_folder, recipe, weights)
    return {
        key: Store(recipe.output / CANDIDATES, key, PoolRow, _misfit(recipe, key, known), claim)
        for key, known in places.items()
    }


def correction_store(recipe: StudyRecipe, weights: Weights) -> Store[SelfCorrectionRow]:
    """Where the rows of Table 5 are kept."""
    claim = partial(claim_folder, recipe, weights, SELF_CORRECTION)
    asked = dict(enumerate(self_correction.shuffled_prompts(recipe)))
    judges = len(judges_of(recipe.detector, recipe.world))

    def misfit(row: SelfCorrectionRow) -> str | None:
        return other_prompt(row.number, row.metadata, asked) or self_correction.misfit(row, judges)

    return Store(recipe.output / SELF_CORRECTION, CANDIDATES, SelfCorrectionRow, misfit, claim)


def other_prompt(number: int, metadata: Metadata, asked: Mapping[int, Metadata]) -> str | None:
    """Say that a row is not of the prompt of its number; None where it is."""
    if number not in asked:
        return f"there is no prompt {number}"
    if metadata.key != asked[number].key:
        return f"metadata is not that of prompt {number}"
    return None


def _misfit(recipe: StudyRecipe, generator: str, known: Mapping[int, Unit]) -> Callable[[PoolRow], str | None]:
    asked = {number: unit.metadata for number, unit in known.items()}
    judges, paths = len(judges_of(recipe.detector, recipe.world)), recipe.pool(generator)

    def misfit(row: PoolRow) -> str | None:
        other = other_prompt(row.number, row.metadata, asked)
        if other:
            return other
        unit = known[row.number]
        if (len(row.correct), len(row.correct[0])) != (judges, paths):
            return f"correct is not of {judges} judges and {paths} paths"
        wanted = due(recipe, unit)
        if row.searches.keys() != wanted.keys():
            return f"searches are not {', '.join(wanted)}"
        problems = (_problem(row.searches[name], how, judges, recipe.n) for name, how in wanted.items())
        return next((f"searches.{name}: {text}" for name, text in zip(wanted, problems, strict=True) if text), None)

    return misfit


def _problem(found: Outcome, row: RowRecipe, judges: int, n: int) -> str | None:
    """Say what an outcome lacks that the table and the curves need."""
    if not row.how.replayed:
        return None if len(found.correct or []) == judges else f"correct is not of {judges} judges"
    paths = row.how.paths(n)
    if len(found.paths) != paths:
        return f"there are {len(found.paths)} paths, not {paths}"
    if row.verifier is None:
        return None
    # Earlier versions asked nothing about paths that were stopped and not taken, where no choice depends on that.
    stopped = {k for k, path in enumerate(found.paths) if path.stopped is not None and k != found.chosen}
    spared = stopped if all(found.paths[k].score is None for k in stopped) else set()
    missing = [k for k, path in enumerate(found.paths) if path.score is None and k not in spared]
    return f"path {missing[0]} has no score" if missing else None
