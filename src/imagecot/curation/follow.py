"""`run`: a whole curation, from its recipe to what was written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imagecot import registry
from imagecot.curation.corrections import curate_corrections
from imagecot.curation.dataset import Work
from imagecot.curation.draws import label_job, redraw_job
from imagecot.curation.job import Job, fill
from imagecot.curation.llava import curate_import, export_llava
from imagecot.curation.pairs import curate_pairs
from imagecot.curation.prompts import prompts_of, write_prompts
from imagecot.curation.recipes import (
    CurateCorrections,
    CurateExport,
    CurateImport,
    CurateOrm,
    CuratePairs,
    CurateParm,
    CuratePrm,
    CuratePrompts,
    CurateRedraws,
    CurateReflection,
    CurateRepairs,
    InUnits,
    Recipe,
)
from imagecot.curation.reflection import chat_model, reflection_job
from imagecot.curation.repairs import image_job, scene_job
from imagecot.curation.schema import RankingRow
from imagecot.execution.executors import LOCAL
from imagecot.execution.team import Team
from imagecot.recipes import usable
from imagecot.watch import SILENT, Watch


@dataclass(frozen=True)
class Curated:
    """What a curation has written.

    place   the folder, or the file of prompts or conversations
    counts  how many there are of what: rows by question and label, as `orm/yes`; or prompts, pairs, groups,
            conversations
    told    all that in words, with what a chat model cost and how many of its answers were no reasons
    """

    place: Path
    counts: Mapping[str, int]
    told: str


def run(recipe: Recipe, *, watch: Watch = SILENT) -> Curated:
    """Do what is missing of a curation; one that was interrupted goes on where it was.

    UsageError for a name that there is not, data that hold nothing of use, a test prompt, and an output that holds
    something else; ImagecotError for data that are damaged, and where no row at all could be made.
    """
    recipe = usable(recipe, watch)
    match recipe:
        case CurateOrm() | CuratePrm() | CurateParm():
            _check(recipe)
            return _filled(partial(label_job, recipe), recipe, watch)
        case CurateRedraws():
            _check(recipe)
            return _filled(partial(redraw_job, recipe), recipe, watch)
        case CurateReflection():
            return _reflect(recipe, watch)
        case CurateRepairs():
            registry.check("generator", recipe.generator)
            if recipe.data is None:
                return _filled(partial(scene_job, recipe), recipe, watch)
            return _filled(partial(image_job, recipe, recipe.data), recipe, watch)
        case CurateImport():
            return _labelled(recipe.output, curate_import(recipe))
        case CuratePrompts():
            prompts = prompts_of(recipe.world, recipe.per_task, recipe.seed)
            write_prompts(prompts, recipe.output)
            return Curated(recipe.output, {"prompts": len(prompts)}, f"{len(prompts)} prompts")
        case CuratePairs():
            pairs = curate_pairs(recipe)
            return _of_prompts(recipe.output, "pairs", [pair.prompt for pair in pairs])
        case CurateCorrections():
            groups = curate_corrections(recipe)
            return _of_prompts(recipe.output, "groups", [group.prompt for group in groups])
        case CurateExport():
            count = export_llava(recipe.data, recipe.output)
            return Curated(recipe.output / "data.json", {"conversations": count}, f"{count} conversations")


def _check(recipe: CurateOrm | CuratePrm | CurateParm | CurateRedraws) -> None:
    registry.check("generator", recipe.generator)
    registry.check("detector", recipe.detector)


def _reflect(recipe: CurateReflection, watch: Watch) -> Curated:
    chat = chat_model(recipe)
    if chat is None:
        registry.check("detector", recipe.detector)
    if chat is None or recipe.workers > 1:
        return _filled(partial(_reflection, recipe), recipe, watch)
    found = fill(lambda: reflection_job(recipe, chat), watch, _team(recipe))
    left_out = f"; {chat.left_out} gave no reasons" if chat.left_out else ""
    return _labelled(recipe.output, found, f"; {chat.cost}{left_out}")


def _reflection(recipe: CurateReflection) -> Job[RankingRow]:
    """With a chat model of this process, whose costs nobody tells."""
    return reflection_job(recipe, chat_model(recipe))


def _filled(source: Callable[[], Job[Work]], recipe: InUnits, watch: Watch) -> Curated:
    return _labelled(recipe.output, fill(source, watch, _team(recipe)))


def _team(recipe: InUnits) -> Team:
    return Team(recipe.workers, recipe.on, recipe.model_copy(update={"workers": 1, "on": LOCAL}))


def _labelled(out: Path, counts: Mapping[str, int], cost: str = "") -> Curated:
    return Curated(out, counts, ", ".join(f"{count} {name}" for name, count in counts.items()) + cost)


def _of_prompts(out: Path, what: str, prompts: list[str]) -> Curated:
    counts = {what: len(prompts), "prompts": len({*prompts})}
    return Curated(out, counts, f"{len(prompts)} {what} of {counts['prompts']} prompts")
