"""Groups for self-correction: a prompt, a rejected image, an accepted image and the reasons (paper, section 3.4)."""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from imagecot.curation.dataset import (
    CODES,
    IDENTITY,
    KIND,
    REASONS,
    Row,
    claim_shards,
    contents,
    read_rows,
    read_shards,
    unique_ids,
    write_card,
    write_shard,
)
from imagecot.curation.schema import CorrectionRow, checked
from imagecot.errors import ImagecotError, UsageError
from imagecot.identity import refuse_occupied
from imagecot.images import open_picture

Pairing = Literal["nearest", "random"]
_CODES = ("rejected_codes", "accepted_codes")
_COLUMNS = ("id", "prompt", "task", "metadata", "reasons", "rejected_seed", "accepted_seed", *_CODES)


def make_corrections(
    reflections: Iterable[Row], images: Iterable[Row], pairing: Pairing, seed: int, most: int | None = None
) -> list[Row]:
    """Return a group for each rejected image that has reasons and an accepted image of the same prompt.

    reflections  rows of `curate reflection`
    images       rows of the `curate orm` that they were made from, for the accepted images
    pairing      nearest: the accepted image whose pixels differ least from the rejected one's, so that the generator
                 learns to keep what was right (its codes may differ where the pictures hardly do); random: any
    most         groups at most, a random choice

    UsageError where there is none, ImagecotError for images without codes.
    """
    accepted: dict[str, list[Row]] = {}
    for row in images:
        if row["question"] == "orm" and row["label"] == "yes":
            accepted.setdefault(row["prompt"], []).append(row)
    groups = []
    for row in reflections:
        if row["question"] == "reflection" and row.get(REASONS) and row["prompt"] in accepted:
            choices = accepted[row["prompt"]]
            if row.get(CODES) is None or any(choice.get(CODES) is None for choice in choices):
                raise ImagecotError(f"the images of {row['prompt']!r} have no codes; curate orm again.")
            rng = random.Random(f"{seed}:{row['id']}")
            nearest = pairing == "nearest"
            choice = min(choices, key=lambda c: (difference(row, c), c["id"])) if nearest else rng.choice(choices)
            if len(row[CODES]) != len(choice[CODES]):
                raise ImagecotError(
                    f"images of {row['prompt']!r} differ in their codes; curate all with one generator."
                )
            groups.append(_group(row, choice))
    if not groups:
        raise UsageError("no rejected image of this data has reasons and an accepted one beside it; draw more paths.")
    random.Random(seed).shuffle(groups)
    return unique_ids(groups[:most])


def difference(rejected: Row, accepted: Row) -> float:
    """Return the mean difference of two images' pixels, in 0 to 1; ImagecotError where their sizes differ."""
    one, other = (_pixels(row["image"]["bytes"]) for row in (rejected, accepted))
    if one.shape != other.shape:
        raise ImagecotError(f"images of {rejected['prompt']!r} differ in size; curate all with one generator.")
    return float(np.abs(one - other).mean()) / 255


@lru_cache(maxsize=4096)
def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(open_picture(png), np.int16)


def _group(rejected: Row, accepted: Row) -> Row:
    return {
        "id": f"{rejected['id']}/{accepted['id']}",
        **{name: rejected[name] for name in ("prompt", "task", "metadata", "reasons")},
        "rejected_seed": rejected["seed"],
        "accepted_seed": accepted["seed"],
        "rejected_codes": rejected[CODES],
        "accepted_codes": accepted[CODES],
        "rejected": rejected["image"],
        "accepted": accepted["image"],
        "difference": difference(rejected, accepted),
    }


def write_corrections(out: Path, groups: list[Row], identity: Row) -> None:
    """Write groups as one shard with a card; UsageError where `out` holds something else."""
    claim_shards(out, identity)
    write_shard(out / "data" / "00000.parquet", groups, (*_COLUMNS, "difference", "rejected", "accepted"))
    same = [
        sum(a == b for a, b in zip(g["rejected_codes"], g["accepted_codes"], strict=True)) / len(g["accepted_codes"])
        for g in groups
    ]
    apart = [group["difference"] for group in groups]
    card = f"""# Correction groups

{len(groups)} groups of {len({group["prompt"] for group in groups})} prompts. A rejected image and the accepted one
beside it share {sum(same) / len(same):.0%} of their codes; their pixels differ by {sum(apart) / len(apart):.3f} of 1.

Columns: id, prompt, task, metadata (GenEval's requirement, JSON), reasons (what is wrong with the rejected image),
seeds and the generator's codes of both images, by how much their pixels differ, and the images.
"""
    write_card(out, "image-to-image", card)


def read_corrections(folder: str | Path) -> Iterator[Row]:
    """Every group of a folder of `write_corrections`; ImagecotError naming shard, row and field of what is no group."""
    for _, row in checked(read_shards(folder, _COLUMNS), CorrectionRow, _CODES):
        yield row


def curate_corrections(
    data: Sequence[Path], images: Sequence[Path], out: Path, pairing: Pairing, seed: int, most: int | None
) -> list[Row]:
    """Write the groups of folders of `curate reflection` and of folders with accepted images; returns the groups.

    UsageError where a folder is named twice, where there is no group, or where `out` holds something else.
    """
    identity = {
        "kind": "corrections",
        "data_sha256": contents(data, "--data"),
        "images_sha256": contents(images, "--images"),
        "pairing": pairing,
        "most": most,
        "seed": seed,
    }
    refuse_occupied(out / IDENTITY, identity, KIND)
    rejected, accepted = (chain.from_iterable(map(read_rows, folders)) for folders in (data, images))
    groups = make_corrections(rejected, accepted, pairing, seed, most)
    write_corrections(out, groups, identity)
    return groups
