"""Scores for a card, out of the folder of an evaluation or a study that measured these very weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot.errors import UsageError
from imagecot.evaluation.report import plain
from imagecot.evaluation.state import IDENTITY as EVALUATION
from imagecot.evaluation.summary import SUMMARY, Found
from imagecot.evaluation.summary import read_summary as read_evaluation
from imagecot.naming import printable, safe_name
from imagecot.reading import read_record
from imagecot.study.summary import Row
from imagecot.study.summary import Summary as Study

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

ALL = "overall"  # the mean of the tasks
METRIC = "share of right images"
_ROLES = ("generator", "verifier", "corrector")


@dataclass(frozen=True)
class Score:
    """What one way to draw reached: shares of right images in 0 to 1 by the first judge, and by the second if any."""

    method: str
    overall: float
    error: float | None
    tasks: Mapping[str, float]
    second: float | None = None
    second_error: float | None = None


@dataclass(frozen=True)
class Results:
    """The scores of a folder that are about a model; `how` says how they came about, in sentences."""

    scores: Sequence[Score]
    how: str
    date: str | None = None


def results_of(folder: Path, digests: Mapping[str, str]) -> Results:
    """Read the scores of a model in a folder of results.

    digests  SHA-256 of the model's weights by role, as `Parcel.digests`

    UsageError where the folder holds neither kind of results, or none with these weights; ImagecotError where it is
    damaged.
    """
    if not (folder / SUMMARY).is_file():
        raise UsageError(f"{folder} has no {SUMMARY}; give the folder of a finished evaluation or study.")
    own = {digests[role] for role in (*_ROLES, "detector", "weights") if role in digests}
    if (folder / EVALUATION).is_file() or _is_evaluation(folder):
        found = _evaluated(read_evaluation(folder), own)
    else:
        found = _studied(read_record(folder / SUMMARY, Study, advice="run the study again"), own)
    if not found.scores:
        shown = ", ".join(f"{digest[:12]}…" for digest in sorted(own))
        raise UsageError(
            f"{folder} says nothing of these weights (SHA-256 {shown}): other weights were measured, or images that do "
            "not say who drew them; evaluate this model first."
        )
    return found


def _is_evaluation(folder: Path) -> bool:
    """Whether a summary that stands alone is that of an evaluation."""
    from imagecot.reading import read_object

    return "score" in read_object(folder / SUMMARY, advice="run its command again")


def _evaluated(found: Found, own: set[str]) -> Results:
    run, weights = found.record.run, found.record.run.get("weights")
    if not (isinstance(weights, Mapping) and any(weights.get(role) in own for role in _ROLES)):
        return Results((), "")
    paths, judge = run.get("n"), run.get("verifier")
    method = f"{run.get('search') or 'images'}" + f", {paths} paths" * bool(paths) + f" judged by {judge}" * bool(judge)
    second = found.second_judge
    score = Score(
        printable(method),
        found.score.overall,
        found.score.overall_se,
        {tag: task.score for tag, task in found.score.tasks.items()},
        second.overall if second else None,
        second.overall_se if second else None,
    )
    how = (
        f"{found.score.total_images} images of {found.score.total_prompts} prompts, judged by "
        f"{found.record.detector.get('detector')}"
        + (f"; second judge {found.record.second.get('detector')}" if found.record.second else "")
        + f". imagecot {found.record.versions.get('imagecot', '')}."
    )
    return Results((score,), printable(how))


def _studied(found: Study, own: set[str]) -> Results:
    return studied(found, [(name, row) for name, row in found.methods.items() if _is_about(found, row, own)])


def studied(study: Study, rows: Iterable[tuple[str, Row]]) -> Results:
    """Some methods of a study."""
    scores = [
        Score(
            printable(study.label(name)),
            row.overall,
            row.overall_se,
            row.tasks,
            row.second_judge.overall if row.second_judge else None,
            row.second_judge.overall_se if row.second_judge else None,
        )
        for name, row in rows
    ]
    how = f"{study.prompts} prompts, by `{study.command}`, {study.date}."
    return Results(scores, printable(how), study.date or None)


def _is_about(study: Study, row: Row, own: set[str]) -> bool:
    """Whether a row was drawn by a model or judged by it."""
    named = {
        ("generators", study.models.get(row.generator or "", ""), "generator"),
        ("verifiers", row.verifier or "", "verifier"),
    }
    for kind, name, role in named:
        known = study.weights.get(kind)
        weights = known.get(name) if isinstance(known, Mapping) else None
        if isinstance(weights, Mapping) and weights.get(role) in own:
            return True
    return False


def table(results: Results) -> str:
    """The scores as a Markdown table with standard errors, and how they came about."""
    second = any(score.second is not None for score in results.scores)
    tasks = list(dict.fromkeys(task for score in results.scores for task in score.tasks))
    head = ["how it is drawn", "score", *(["second judge"] if second else []), *map(plain, tasks)]
    lines = [head, ["---"] * len(head)]
    for score in results.scores:
        cells = [plain(score.method), _cell(score.overall, score.error)]
        cells += [_cell(score.second, score.second_error)] if second else []
        lines.append([*cells, *(_cell(score.tasks.get(task), None) for task in tasks)])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{rows}\n\nThe score is the mean over the tasks of the share of right images.\n{results.how}"


def _cell(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{value:.3f}" + (f" (±{error:.3f})" if error is not None else "")


def in_card(results: Results, benchmark: str) -> "list[EvalResult]":
    """The scores as metadata of a card: of each way to draw the mean over the tasks.

    benchmark  what the prompts are called
    """
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type=benchmark,
            dataset_name=benchmark,
            metric_type="accuracy",
            metric_name=f"{METRIC}, {ALL} ({score.method})",
            metric_value=round(score.overall, 4),
        )
        for score in results.scores
    ]


def in_files(results: Results, benchmark: str) -> "dict[str, list[EvalResultEntry]]":
    """The scores as files of `.eval_results/`: one for each way to draw, as the hub wants of variants.

    benchmark  a repository of a data set, whose tasks are called as ours
    """
    from huggingface_hub import EvalResultEntry

    return {
        f".eval_results/{safe_name(score.method)}.yaml": [
            EvalResultEntry(benchmark, task, round(value, 4), date=results.date, notes=score.method)
            for task, value in _values(score)
        ]
        for score in results.scores
    }


def _values(score: Score) -> Iterable[tuple[str, float]]:
    return [(ALL, score.overall), *score.tasks.items()]
