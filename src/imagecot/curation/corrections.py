"""Groups for self-correction: a prompt, a rejected image, an accepted image and the reasons (paper, section 3.4)."""

import io
import random
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from imagecot.curation.dataset import CODES, REASONS, Row, claim_shards, read_shards, write_card, write_shard
from imagecot.errors import ImagecotError, UsageError

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
            groups.append(_group(row, choice))
    if not groups:
        raise UsageError("no rejected image of this data has reasons and an accepted one beside it; draw more paths.")
    random.Random(seed).shuffle(groups)
    return groups[:most]


def difference(rejected: Row, accepted: Row) -> float:
    """Return the mean difference of two images' pixels, in 0 to 1; ImagecotError where their sizes differ."""
    one, other = (_pixels(row["image"]["bytes"]) for row in (rejected, accepted))
    if one.shape != other.shape:
        raise ImagecotError(f"images of {rejected['prompt']!r} differ in size; curate all with one generator.")
    return float(np.abs(one - other).mean()) / 255


@lru_cache(maxsize=4096)
def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)


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
    """Every group of a folder of `write_corrections`; ImagecotError naming shard and row for an incomplete one."""
    for file, number, row in read_shards(folder, _COLUMNS):
        if not (row["prompt"] or "").strip() or not all(row[name] for name in _CODES):
            raise ImagecotError(f"row {number} of {file} lacks its prompt or codes; curate again.")
        yield row
