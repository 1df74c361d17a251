"""Scores of verdicts, one a prompt or more, and how two rows compare: GenEval's table as a summary holds it."""

from collections.abc import Sequence
from dataclasses import asdict

from imagecot.contracts.metadata import Metadata
from imagecot.geneval.summary import Verdict, compare, summarize
from imagecot.study.summary import Gain, Scored, Scores

ByJudge = Sequence[Sequence[Verdict]]  # on the same images by each judge in turn; by the first the scores are


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


def scored(verdicts: ByJudge) -> Scored:
    """The scores by each judge; `second_judge` is None where there is one."""
    first, *others = map(scores, verdicts)
    return Scored(**dict(first), second_judge=others[0] if others else None)


def gain(a: Sequence[Verdict], b: Sequence[Verdict]) -> Gain:
    """The paired difference a - b of the same images."""
    return Gain(**asdict(compare(a, b)))
