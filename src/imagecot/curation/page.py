"""What people see of ranking data: the card, and a page of samples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from imagecot import figures
from imagecot.curation.schema import Question
from imagecot.images import open_picture
from imagecot.naming import printable

SAMPLES = 8  # of each question and label
Key = tuple[str, str]  # question and label
_MOST_LINES = 6  # of a text on the page


@dataclass(frozen=True)
class Sample:
    """A row as the page shows it: the bytes of its image, and what is asked and answered at which step."""

    image: bytes
    prompt: str
    step: int
    said: str


def card(title: str, how: str, counts: Counter[Key]) -> str:
    """The text of a card about `counts` rows of each question and label."""
    asked = [question for question in get_args(Question) if counts[question, "yes"] + counts[question, "no"]]
    lines = "\n".join(f"| {question} | {counts[question, 'yes']} | {counts[question, 'no']} |" for question in asked)
    return f"""# {title}

{counts.total()} labelled images. {printable(how)}

| question | yes | no |
|---|---|---|
{lines}

Columns: id, prompt, task, metadata (GenEval's requirement, JSON), question (orm, prm, clarity, potential or \
reflection), step of steps, seed of the path, label (yes or no), agreement (clarity only: whether the scorer's verdict \
on this preview is that on the final image), image, codes (orm and reflection: the generator's codes of the image), \
reasons (reflection: what is wrong, in words).

![samples](samples.png)
"""


def write_samples(samples: Mapping[Key, Sequence[Sample]], file: Path) -> None:
    """Write a picture with up to SAMPLES rows of each question and label, of which there must be one at least."""
    from matplotlib.figure import Figure

    keys = sorted(samples)
    figure = Figure(figsize=(14, 2.4 * len(keys)))
    axes = figure.subplots(len(keys), SAMPLES, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for line, key in zip(axes, keys, strict=True):
        for axis, sample in zip(line, samples[key], strict=False):
            axis.imshow(open_picture(sample.image), interpolation="nearest")
            text = figures.wrapped(sample.prompt, 24, _MOST_LINES)
            said = figures.wrapped(sample.said, 28, _MOST_LINES)
            axis.set_title(f"{text}\n{key[0]}, step {sample.step}: {said}", fontsize=7)
    figures.save(figure, file, dpi=80)
