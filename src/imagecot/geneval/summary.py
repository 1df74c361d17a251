"""GenEval's table from per-image verdicts, with standard errors, and the paired comparison of two tables.

Images of one prompt are not independent, so errors are clustered by prompt; a prompt is its metadata string.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from imagecot.bounds import MAX_SEED, check_whole, shown
from imagecot.errors import UsageError
from imagecot.statistics.clustered import ratio_error
from imagecot.statistics.paired import mcnemar, mean_of_ratios

MOST_RESAMPLES = 100_000


@dataclass(frozen=True)
class Verdict:
    """Whether an image shows what its prompt asks for; `metadata` is the prompt's, as the text of its JSON."""

    tag: str
    metadata: str
    correct: bool


Verdicts = Iterable[Verdict | Mapping[str, object]]
"""One an image: a `Verdict`, or a mapping of `tag`, `metadata` (its JSON string or the dict) and `correct`."""


@dataclass(frozen=True)
class TaskScore:
    """One task: right images, all images, their ratio and its standard error (None below two prompts)."""

    correct: int
    total: int
    score: float
    se: float | None


@dataclass(frozen=True)
class Summary:
    """A GenEval table; `overall` is the unweighted mean of the tasks present.

    `correct_images` is the share of right images, `correct_prompts` that of prompts with at least one.
    """

    overall: float
    overall_se: float | None
    tasks: dict[str, TaskScore]
    total_images: int
    total_prompts: int
    correct_images: float
    correct_prompts: float


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of tables A and B over the same prompts; `difference` is overall A − overall B.

    `low` and `high` bound its bootstrap interval; `only_a` and `only_b` count the image pairs in which only
    that one is right, and `p_value` is the exact two-sided McNemar test on them.
    """

    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p_value: float


def summarize(rows: Verdicts) -> Summary:
    """Summarise verdicts, or rows of `tag`, `metadata` (its JSON string or the dict) and `correct`, one an image.

    The scores are those of GenEval's `summary_scores.py`. A task's score is a ratio of sums over prompts, so
    its error is the linearised cluster-robust one; tasks share no prompts, so the error of the overall is
    sqrt(Σ se²) / T, and None as soon as one task has a single prompt. UsageError without rows.
    """
    clusters = _clusters(rows)
    tasks: dict[str, TaskScore] = {}
    for tag, prompts in clusters.items():
        correct = sum(sum(images) for images in prompts.values())
        total = sum(len(images) for images in prompts.values())
        right = [sum(images) for images in prompts.values()]
        sizes = [len(images) for images in prompts.values()]
        tasks[tag] = TaskScore(correct, total, correct / total, ratio_error(right, sizes))

    best_of: dict[str, bool] = {}  # a prompt counts once, even if two tasks hold it
    for prompts in clusters.values():
        for metadata, images in prompts.items():
            best_of[metadata] = best_of.get(metadata, False) or any(images)
    total_images = sum(task.total for task in tasks.values())
    errors = [task.se for task in tasks.values() if task.se is not None]
    return Summary(
        overall=float(np.mean([task.score for task in tasks.values()])),
        overall_se=math.hypot(*errors) / len(tasks) if len(errors) == len(tasks) else None,
        tasks=tasks,
        total_images=total_images,
        total_prompts=len(best_of),
        correct_images=sum(task.correct for task in tasks.values()) / total_images,
        correct_prompts=sum(best_of.values()) / len(best_of),
    )


def format_summary(summary: Summary) -> str:
    """The table as GenEval's `summary_scores.py` prints it, final newline included (no standard errors)."""
    lines = [
        "Summary",
        "=======",
        f"Total images: {summary.total_images}",
        f"Total prompts: {summary.total_prompts}",
        f"% correct images: {summary.correct_images:.2%}",
        f"% correct prompts: {summary.correct_prompts:.2%}",
        "",
        "Task breakdown",
        "==============",
        *(f"{tag:<16} = {t.score:.2%} ({t.correct} / {t.total})" for tag, t in summary.tasks.items()),
        "",
        f"Overall score (avg. over tasks): {summary.overall:.5f}",
    ]
    return "\n".join(lines) + "\n"


def compare(
    rows_a: Verdicts,
    rows_b: Verdicts,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two tables image by image: the k-th image of a prompt in A with the k-th of it in B.

    The interval is the percentile bootstrap of the difference of the overall scores, prompts resampled within
    their task. McNemar's test takes image pairs as independent, so with several images a prompt the interval
    is the safer of the two. Raises UsageError if A and B differ in prompts or in the images of a prompt.
    """
    check_whole(resamples, "the number of resamples", 1, MOST_RESAMPLES)
    check_whole(seed, "the seed", 0, MAX_SEED)
    if isinstance(confidence, bool) or not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise UsageError("the confidence of a comparison must be a number between 0 and 1.")
    a, b = _clusters(rows_a), _clusters(rows_b)
    sizes_a, sizes_b = _sizes(a), _sizes(b)
    for tag, metadata in {**sizes_a, **sizes_b}:
        left, right = sizes_a.get((tag, metadata), 0), sizes_b.get((tag, metadata), 0)
        if left != right:
            raise UsageError(
                f"Both sides of a comparison need the same images, got {left} against {right} for {metadata[:200]}."
            )
    pairs: Counter[tuple[bool, bool]] = Counter()
    tasks = []
    for tag, prompts in a.items():
        gains = [sum(images) - sum(b[tag][metadata]) for metadata, images in prompts.items()]
        tasks.append((gains, [len(images) for images in prompts.values()]))
        for metadata, images in prompts.items():
            pairs.update(zip(images, b[tag][metadata], strict=True))
    gain = mean_of_ratios(tasks, resamples=resamples, confidence=confidence, seed=seed)
    only_a, only_b = pairs[True, False], pairs[False, True]
    return Comparison(gain.estimate, gain.low, gain.high, only_a, only_b, mcnemar(only_a, only_b))


def _clusters(rows: Verdicts) -> dict[str, dict[str, list[bool]]]:
    """The verdicts by tag and metadata string, each in order of first appearance; UsageError without rows."""
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise UsageError(f"The results must be rows, not {type(rows).__name__}.")
    clusters: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(rows):
        verdict = row if isinstance(row, Verdict) else _read(row, f"Row {number} of the results")
        clusters[verdict.tag][verdict.metadata].append(verdict.correct)
    if not clusters:
        raise UsageError("There are no results to summarise; evaluate at least one image first.")
    return clusters


def _read(row: object, where: str) -> Verdict:
    """The verdict of a row; UsageError where something is missing or of another type."""
    if not isinstance(row, Mapping):
        raise UsageError(f"{where} is no mapping but {type(row).__name__}.")
    try:
        tag, metadata, correct = row["tag"], row["metadata"], row["correct"]
    except KeyError as missing:
        raise UsageError(f"{where} lacks the key {missing}.") from None
    if not isinstance(tag, str):
        raise UsageError(f"{where} has a tag that is no text but {type(tag).__name__}.")
    if not isinstance(correct, (bool, np.bool_)) and not (isinstance(correct, Integral) and correct in (0, 1)):
        raise UsageError(f"{where}: correct must be true or false, not {shown(correct)}.")
    if not isinstance(metadata, str):
        try:
            metadata = json.dumps(metadata, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"{where} has metadata that is no JSON ({error}).") from None
    return Verdict(tag, metadata, bool(correct))


def _sizes(clusters: dict[str, dict[str, list[bool]]]) -> dict[tuple[str, str], int]:
    return {(tag, metadata): len(images) for tag, prompts in clusters.items() for metadata, images in prompts.items()}
