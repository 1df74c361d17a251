"""Soft-TIFA: of the probabilities of right answers to scores by skill and by atom count, with clustered intervals.

An image's score is the arithmetic mean of its atoms (AM, of atoms) or their geometric mean (GM, of the prompt as a
whole). As in the reference, skills are means over atoms, and everything else is a mean over images. Atoms and images of
one prompt are not independent, so errors and intervals are clustered by prompt.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

from imagecot.errors import ImagecotError
from imagecot.reading import Schema
from imagecot.statistics.clustered import ratio_error
from imagecot.statistics.paired import mean_of_ratios


class Scored(Schema):
    """One image: the probability of the right answer to each question, and both means of them."""

    filename: str
    prompt: str
    atom_count: int
    skills: list[str]
    scores: list[float]
    am: float
    gm: float


class Estimate(Schema):
    """A mean, its standard error and its 95 % interval by the bootstrap; None for a single prompt.

    count    values that it is the mean of
    prompts  clusters
    """

    mean: float
    se: float | None
    low: float | None
    high: float | None
    count: int
    prompts: int


class Means(Schema):
    """Both scores of some images."""

    am: Estimate
    gm: Estimate


class Summary(Schema):
    """All scores; `skills` are means of atoms, and `atom_counts` are in the order of the counts.

    zeros  answers with a probability of 0, each of which makes the GM of its image 0
    """

    overall: Means
    skills: Mapping[str, Estimate]
    atom_counts: Mapping[str, Means]
    images: int
    prompts: int
    zeros: int


def arithmetic(scores: Sequence[float]) -> float:
    """Soft-TIFA AM of an image."""
    return math.fsum(scores) / len(scores)


def geometric(scores: Sequence[float]) -> float:
    """Soft-TIFA GM of an image; 0 as soon as one probability is."""
    if min(scores) <= 0:
        return 0.0
    return math.exp(math.fsum(math.log(score) for score in scores) / len(scores))


def estimate(values: Iterable[tuple[Hashable, float]]) -> Estimate:
    """The mean of values, each with its cluster; at least one."""
    grouped: dict[Hashable, list[float]] = {}
    for cluster, value in values:
        grouped.setdefault(cluster, []).append(value)
    sums, sizes = [math.fsum(group) for group in grouped.values()], [len(group) for group in grouped.values()]
    mean, several = math.fsum(sums) / sum(sizes), len(grouped) > 1
    interval = mean_of_ratios([(sums, sizes)]) if several else None
    return Estimate(
        mean=mean,
        se=ratio_error(sums, sizes),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        count=sum(sizes),
        prompts=len(grouped),
    )


def means(images: Sequence[Scored]) -> Means:
    """Both scores of images, at least one."""
    return Means(
        am=estimate((image.prompt, image.am) for image in images),
        gm=estimate((image.prompt, image.gm) for image in images),
    )


def summarize(images: Sequence[Scored]) -> Summary:
    """All scores of images; ImagecotError without any."""
    if not images:
        raise ImagecotError("there are no results to summarise; score at least one image first.")
    atoms: dict[str, list[tuple[str, float]]] = {}
    counts: dict[int, list[Scored]] = {}
    for image in images:
        counts.setdefault(image.atom_count, []).append(image)
        for skill, score in zip(image.skills, image.scores, strict=True):
            atoms.setdefault(skill, []).append((image.prompt, score))
    return Summary(
        overall=means(images),
        skills={skill: estimate(found) for skill, found in atoms.items()},
        atom_counts={str(count): means(counts[count]) for count in sorted(counts)},
        images=len(images),
        prompts=len({image.prompt for image in images}),
        zeros=sum(score <= 0 for image in images for score in image.scores),
    )
