"""Ranking data on disk: shards, a card, and a page of samples.

A shard is one unit of work and is written whole, so a curation that was killed goes on with the next one and ends with
the rows of one that was not.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.curation.page import SAMPLES, Sample, card, write_samples
from imagecot.curation.schema import RANKING, Question, RankingRow
from imagecot.curation.shards import IDENTITY, KIND, claim_shards, read_shards, write_card, write_shard
from imagecot.errors import ImagecotError
from imagecot.files import publish
from imagecot.identity import Identity, read_identity, refuse_occupied
from imagecot.images import open_picture, png

if TYPE_CHECKING:
    from torch import Tensor

Work = TypeVar("Work")


def ranking_row(
    metadata: Metadata,
    question: Question,
    image: "Tensor",
    *,
    step: int,
    steps: int,
    seed: int,
    label: bool,
    agreement: bool | None = None,
    codes: "Tensor | None" = None,
    fill: str | None = None,
) -> RankingRow:
    """An image (3, H, W) in [0, 1] of a path, and what is asked and answered of it; fields as of `RankingRow`."""
    return RankingRow(
        id=f"{question}-{seed}-{step}",
        prompt=metadata.prompt,
        task=metadata.tag,
        metadata=metadata.text,
        question=question,
        step=step,
        steps=steps,
        seed=seed,
        label="yes" if label else "no",
        agreement="" if agreement is None else "yes" if agreement else "no",
        image=png(image),
        codes=None if codes is None else codes.tolist(),
        fill=fill,
    )


def read_rows(folder: str | Path) -> Iterator[RankingRow]:
    """Every row of a curated folder, with an image that can be read.

    ImagecotError naming shard, row and field for what is no `RankingRow`, an image that cannot be read, or a repeated
    id; UsageError where there is no such data.
    """
    for where, row in read_shards(folder, RANKING):
        open_picture(row.image, f"{where}: the image")
        yield row


class RankingData:
    """A folder of shards under way: `data/00000.parquet` and so on. It is claimed when the first of them is written."""

    def __init__(self, out: Path, identity: Identity) -> None:
        """Open or resume; UsageError where the folder holds something else."""
        self.out = out
        self.identity: dict[str, JSON] = dict(identity)
        refuse_occupied(out / IDENTITY, identity, KIND)

    def shard(self, unit: int) -> Path:
        """The file of a unit."""
        return self.out / "data" / f"{unit:05d}.parquet"

    @property
    def claimed(self) -> bool:
        """Whether anything was written."""
        return (self.out / IDENTITY).is_file()

    def settle(self, known: Identity) -> None:
        """Make what is known once the models are loaded a part of the identity, as far as the folder tells it too.

        UsageError where it tells something else.
        """
        file = self.out / IDENTITY
        there = read_identity(file) if file.is_file() else known
        self.identity |= {name: value for name, value in known.items() if name in there}
        refuse_occupied(file, self.identity, KIND)

    def claim(self) -> None:
        """Make the folder this curation's own; errors as of `claim_shards`."""
        claim_shards(self.out, self.identity)

    def keep(self, unit: int, rows: Sequence[RankingRow]) -> None:
        """Write the rows of a unit, unless they are there: of several that make them the first count."""
        self.claim()
        if not self.shard(unit).is_file():
            write_shard(self.shard(unit), rows, RANKING, write=publish)

    def finish(self, title: str, how: str) -> dict[str, int]:
        """Write the card and the page of samples; returns the counts by question and label.

        ImagecotError where there is no row.
        """
        counts: Counter[tuple[str, str]] = Counter()
        samples: dict[tuple[str, str], list[Sample]] = {}
        for row in read_rows(self.out):
            key = (row.question, row.label)
            counts[key] += 1
            if len(samples.setdefault(key, [])) < SAMPLES:
                samples[key].append(Sample(row.image, row.prompt, row.step, row.answer))
        if not counts:
            raise ImagecotError(f"{self.out} holds no labelled image; delete it and curate from other data.")
        write_card(self.out, "image-to-text", card(title, how, counts))
        write_samples(samples, self.out / "samples.png")
        return {f"{question}/{label}": count for (question, label), count in sorted(counts.items())}
