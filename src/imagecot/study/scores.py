"""Scores of verdicts, one a prompt or more, and how two rows compare: GenEval's table as a summary holds it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from imagecot.contracts.metadata import Metadata
from imagecot.geneval.summary import Verdict, compare, summarize
from imagecot.statistics.clustered import ratio_error
from imagecot.statistics.paired import mean_of_ratios
from imagecot.study.summary import Gain, Scored, Scores, Told

ByJudge = Sequence[Sequence[Verdict]]  # on the same images by each judge in turn; by the first the scores are


@dataclass(frozen=True)
class Shown:
    """The share of a prompt's parts that an image shows; `metadata` is the prompt's, as the text of its JSON."""

    tag: str
    metadata: str
    share: float


def verdict(metadata: Metadata, correct: bool) -> Verdict:
    """A judge's verdict on an image of a prompt."""
    return Verdict(metadata.tag, metadata.text, correct)


def scores(found: Sequence[Verdict]) -> Scores:
    """The scores of verdicts."""
    summary = summarize(found)
    return Scores(
        overall=summary.overall,
        overall_se=summary.overall_se,
        tasks={tag: score.score for tag, score in summary.tasks.items()},
        tasks_se={tag: score.se for tag, score in summary.tasks.items()},
    )


def scores_of_parts(found: Iterable[Shown]) -> Scores:
    """The mean shares of parts, by task and over the tasks, with errors clustered by prompt."""
    tasks: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        tasks[one.tag][one.metadata].append(one.share)
    means, errors = {}, {}
    for tag, prompts in tasks.items():
        sums, sizes = [sum(own) for own in prompts.values()], [len(own) for own in prompts.values()]
        means[tag], errors[tag] = sum(sums) / sum(sizes), ratio_error(sums, sizes)
    known = [error for error in errors.values() if error is not None]
    overall_se = math.hypot(*known) / len(means) if len(known) == len(means) else None
    return Scores(overall=fmean(means.values()), overall_se=overall_se, tasks=means, tasks_se=errors)


def scored(verdicts: ByJudge) -> Scored:
    """The scores by each judge; `second_judge` and `told` are None where there is one."""
    first, *others = map(scores, verdicts)
    told = _told(verdicts[0], verdicts[1]) if others else None
    return Scored(**dict(first), second_judge=others[0] if others else None, told=told)


def _told(first: Sequence[Verdict], second: Sequence[Verdict]) -> Told:
    """What can be told of images: where two judges differ nobody can tell (docs/experiments/detectors.md)."""
    both = list(zip(first, second, strict=True))
    right = summarize([Verdict(a.tag, a.metadata, a.correct and b.correct) for a, b in both]).overall
    differ = summarize([Verdict(a.tag, a.metadata, a.correct != b.correct) for a, b in both]).overall
    return Told(right=right, untold=differ, wrong=max(0.0, 1 - right - differ))


def gain(a: Sequence[Verdict], b: Sequence[Verdict]) -> Gain:
    """The paired difference a - b: of the same images, or of the means of each prompt where one has more of them."""
    of_a, of_b = _by_prompt(a), _by_prompt(b)
    if all(len(of_a[tag][prompt]) == len(of_b[tag][prompt]) for tag in of_a for prompt in of_a[tag]):
        return Gain(**asdict(compare(a, b)))
    gains = [[fmean(own) - fmean(of_b[tag][prompt]) for prompt, own in of_a[tag].items()] for tag in of_a]
    found = mean_of_ratios([(task, [1] * len(task)) for task in gains])
    return Gain(difference=found.estimate, low=found.low, high=found.high)


def _by_prompt(found: Iterable[Verdict]) -> dict[str, dict[str, list[bool]]]:
    tasks: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        tasks[one.tag][one.metadata].append(one.correct)
    return tasks
