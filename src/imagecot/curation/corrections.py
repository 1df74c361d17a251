"""Groups for self-correction: a prompt, a rejected image, an accepted image and the reasons (paper, section 3.4)."""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagecot.curation.dataset import read_rows
from imagecot.curation.recipes import CurateCorrections, Pairing
from imagecot.curation.schema import CORRECTIONS, CorrectionRow, RankingRow
from imagecot.curation.shards import (
    IDENTITY,
    KIND,
    claim_shards,
    contents,
    read_shards,
    unique_ids,
    write_card,
    write_shard,
)
from imagecot.errors import ImagecotError, UsageError
from imagecot.identity import Identity, refuse_occupied
from imagecot.images import open_picture


def make_corrections(
    reflections: Iterable[RankingRow], images: Iterable[RankingRow], pairing: Pairing, seed: int,
    most: int | None = None,
) -> list[CorrectionRow]:  # fmt: skip
    """Return a group for each rejected image that has reasons and an accepted image of the same prompt.

    reflections  rows of `curate reflection`
    images       rows of the `curate orm` that they were made from, for the accepted images
    pairing, most  as of `CurateCorrections`

    UsageError where there is none, ImagecotError for images without codes.
    """
    accepted: dict[str, list[RankingRow]] = {}
    for row in images:
        if row.question == "orm" and row.label == "yes":
            accepted.setdefault(row.prompt, []).append(row)
    groups = []
    for row in reflections:
        if row.question == "reflection" and row.reasons and row.prompt in accepted:
            choices = accepted[row.prompt]
            for one in (row, *choices):
                _codes(one)
            rng = random.Random(f"{seed}:{row.id}")
            groups.append(_group(row, _nearest(row, choices) if pairing == "nearest" else rng.choice(choices)))
    if not groups:
        raise UsageError("no rejected image of this data has reasons and an accepted one beside it; draw more paths.")
    random.Random(seed).shuffle(groups)
    return unique_ids(groups[:most])


def _nearest(rejected: RankingRow, accepted: Sequence[RankingRow]) -> RankingRow:
    return min(accepted, key=lambda row: (difference(rejected, row), row.id))


def difference(rejected: RankingRow, accepted: RankingRow) -> float:
    """Return the mean difference of two images' pixels, in 0 to 1; ImagecotError where their sizes differ."""
    one, other = (_pixels(row.image) for row in (rejected, accepted))
    if one.shape != other.shape:
        raise ImagecotError(f"images of {rejected.prompt!r} differ in size; curate all with one generator.")
    return float(np.abs(one - other).mean()) / 255


@lru_cache(maxsize=4096)
def _pixels(png: bytes) -> NDArray[np.int16]:
    return np.asarray(open_picture(png), np.int16)


def _codes(row: RankingRow) -> list[int]:
    if row.codes is None:
        raise ImagecotError(f"the images of {row.prompt!r} have no codes; curate orm again.")
    return row.codes


def _group(rejected: RankingRow, accepted: RankingRow) -> CorrectionRow:
    if len(_codes(rejected)) != len(_codes(accepted)):
        raise ImagecotError(f"images of {rejected.prompt!r} differ in their codes; curate all with one generator.")
    return CorrectionRow(
        id=f"{rejected.id}/{accepted.id}",
        prompt=rejected.prompt,
        task=rejected.task,
        metadata=rejected.metadata,
        reasons=rejected.reasons or "",
        rejected_seed=rejected.seed,
        accepted_seed=accepted.seed,
        rejected_codes=_codes(rejected),
        accepted_codes=_codes(accepted),
        difference=difference(rejected, accepted),
        rejected=rejected.image,
        accepted=accepted.image,
    )


def write_corrections(out: Path, groups: Sequence[CorrectionRow], identity: Identity) -> None:
    """Write groups as one shard with a card; UsageError where `out` holds something else."""
    claim_shards(out, identity)
    write_shard(out / "data" / "00000.parquet", groups, CORRECTIONS)
    same = [
        sum(a == b for a, b in zip(g.rejected_codes, g.accepted_codes, strict=True)) / len(g.accepted_codes)
        for g in groups
    ]
    apart = [group.difference or 0.0 for group in groups]
    card = f"""# Correction groups

{len(groups)} groups of {len({group.prompt for group in groups})} prompts. A rejected image and the accepted one
beside it share {sum(same) / len(same):.0%} of their codes; their pixels differ by {sum(apart) / len(apart):.3f} of 1.

Columns: id, prompt, task, metadata (GenEval's requirement, JSON), reasons (what is wrong with the rejected image),
seeds and the generator's codes of both images, by how much their pixels differ, and the images.
"""
    write_card(out, "image-to-image", card)


def read_corrections(folder: str | Path) -> Iterator[CorrectionRow]:
    """Every group of a folder of `write_corrections`; ImagecotError naming shard, row and field of what is no group."""
    for _, row in read_shards(folder, CORRECTIONS):
        yield row


def curate_corrections(recipe: CurateCorrections) -> list[CorrectionRow]:
    """Write the groups of folders of `curate reflection` and of folders with accepted images; returns the groups.

    UsageError where a folder is named twice, where there is no group, or where the output holds something else.
    """
    identity: Identity = {
        "kind": "corrections",
        "data_sha256": contents(recipe.data, "--data"),
        "images_sha256": contents(recipe.images, "--images"),
        "pairing": recipe.pairing,
        "most": recipe.most,
        "seed": recipe.seed,
    }
    refuse_occupied(recipe.output / IDENTITY, identity, KIND)
    rejected, accepted = (chain.from_iterable(map(read_rows, folders)) for folders in (recipe.data, recipe.images))
    groups = make_corrections(rejected, accepted, recipe.pairing, recipe.seed, recipe.most)
    write_corrections(recipe.output, groups, identity)
    return groups
