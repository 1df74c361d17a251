"""Preference pairs: of each prompt an image that fulfils it and one that does not (paper, section 2.3)."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from imagecot.curation.dataset import BEFORE, CODES, TOLD, Row, claim_shards, read_shards, write_card, write_shard
from imagecot.errors import ImagecotError, UsageError

_COLUMNS = ("id", "prompt", "task", "metadata", "chosen_seed", "rejected_seed", "chosen", "rejected")
_CODES = ("chosen_codes", "rejected_codes")


def make_pairs(rows: Iterable[Row], seed: int, per_prompt: int = 1, most: int | None = None) -> list[Row]:
    """Return pairs of ranking rows of the question orm, `per_prompt` of each prompt where there are so many.

    Images that were drawn again meet others drawn again from the same image: that counts as a prompt of its own.
    Prompts whose images all have one label are left out. Which images meet depends on (seed, prompt) alone; of more
    than `most` pairs those of a random choice of prompts are kept. UsageError where there is no pair.
    """
    by_prompt: dict[tuple[str, ...], dict[str, list[Row]]] = {}
    for row in rows:
        if row["question"] == "orm":
            again = (str(row[BEFORE]), row[TOLD]) if row.get(BEFORE) else ()
            by_prompt.setdefault((row["prompt"], *again), {"yes": [], "no": []})[row["label"]].append(row)
    prompts = sorted(by_prompt)
    random.Random(seed).shuffle(prompts)
    pairs: list[Row] = []
    for prompt in prompts:
        sides = by_prompt[prompt]
        rng = random.Random(":".join((str(seed), *prompt)))
        for side in sides.values():
            side.sort(key=lambda row: row["id"])
            rng.shuffle(side)
        pairs += [_pair(*both) for both in list(zip(sides["yes"], sides["no"], strict=False))[:per_prompt]]
    if not pairs:
        raise UsageError("no prompt of this data has both a yes and a no image of the question orm; draw more paths.")
    return pairs[:most]


def _pair(chosen: Row, rejected: Row) -> Row:
    return {
        "id": f"{chosen['id']}/{rejected['id']}",
        **{name: chosen[name] for name in ("prompt", "task", "metadata")},
        "chosen_seed": chosen["seed"],
        "rejected_seed": rejected["seed"],
        "chosen": chosen["image"],
        "rejected": rejected["image"],
        "chosen_codes": chosen.get(CODES),
        "rejected_codes": rejected.get(CODES),
        **{name: chosen.get(name) for name in (BEFORE, TOLD)},
    }


def write_pairs(out: Path, pairs: list[Row], identity: Row) -> None:
    """Write pairs as one shard with a card; UsageError where `out` holds something else."""
    claim_shards(out, identity)
    write_shard(out / "data" / "00000.parquet", pairs, (*_COLUMNS, *_CODES, BEFORE, TOLD))
    card = f"""# Preference pairs

{len(pairs)} pairs of {len({pair["prompt"] for pair in pairs})} prompts.

Columns: id, prompt, task, metadata (GenEval's requirement, JSON), seeds of both paths, chosen and rejected image,
and the generator's codes of both where they were kept; of images that were drawn again the codes of the image before
(before_codes) and what was said of it (told).
"""
    write_card(out, "text-to-image", card)


def read_pairs(folder: str | Path) -> Iterator[Row]:
    """Every pair of a folder of `write_pairs`; ImagecotError naming shard and row for one that is incomplete."""
    for file, number, row in read_shards(folder, _COLUMNS):
        complete = (row["prompt"] or "").strip() and all(
            (row[side] or {}).get("bytes") for side in ("chosen", "rejected")
        )
        if not complete:
            raise ImagecotError(f"row {number} of {file} lacks its prompt or an image; curate again.")
        yield row
