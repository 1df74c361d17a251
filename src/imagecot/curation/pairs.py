"""Preference pairs: of each prompt an image that fulfils it and one that does not (paper, section 2.3)."""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from imagecot.bounds import MOST_IMAGES, check_seed, check_whole
from imagecot.curation.dataset import (
    BEFORE,
    CODES,
    IDENTITY,
    KIND,
    TOLD,
    Row,
    claim_shards,
    contents,
    read_rows,
    read_shards,
    unique_ids,
    write_card,
    write_shard,
)
from imagecot.curation.schema import PairRow, checked
from imagecot.errors import ImagecotError, UsageError
from imagecot.identity import refuse_occupied

_COLUMNS = ("id", "prompt", "task", "metadata", "chosen_seed", "rejected_seed", "chosen", "rejected")
MOST_PAIRS = 100_000_000
_CODES = ("chosen_codes", "rejected_codes")


def make_pairs(rows: Iterable[Row], seed: int, per_prompt: int = 1, most: int | None = None) -> list[Row]:
    """Return pairs of ranking rows of the question orm, `per_prompt` of each prompt where there are so many.

    Images that were drawn again meet others drawn again from the same image: that counts as a prompt of its own.
    Prompts whose images all have one label are left out. Which images meet depends on (seed, prompt) alone; of more
    than `most` pairs those of a random choice of prompts are kept.

    UsageError where there is no pair; ImagecotError where an image has both labels, or where the two images of a pair
    have different numbers of codes.
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
    return unique_ids(pairs[:most])


def _pair(chosen: Row, rejected: Row) -> Row:
    if chosen["image"]["bytes"] == rejected["image"]["bytes"]:
        raise ImagecotError(
            f"the image {rejected['id'][:80]!r} of {chosen['prompt'][:60]!r} has both labels; "
            "leave out one of the folders it is in."
        )
    codes = [row[CODES] for row in (chosen, rejected) if row.get(CODES)]
    if len({len(own) for own in codes}) > 1:
        raise ImagecotError(
            f"the images of {chosen['prompt'][:60]!r} differ in their codes; curate all with one generator."
        )
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
    """Every pair of a folder of `write_pairs`; ImagecotError naming shard, row and field for what is no pair."""
    for _, row in checked(read_shards(folder, _COLUMNS), PairRow, (*_CODES, BEFORE)):
        yield row


def curate_pairs(data: Sequence[Path], out: Path, seed: int, per_prompt: int, most: int | None) -> list[Row]:
    """Write the pairs of folders of ranking data; returns them.

    UsageError where a folder is named twice, where there is no pair, or where `out` holds something else.
    """
    check_seed(seed)
    check_whole(per_prompt, "per_prompt", 1, MOST_IMAGES)
    if most is not None:
        check_whole(most, "most", 1, MOST_PAIRS)
    identity = {
        "kind": "pairs",
        "data_sha256": contents(data, "--data"),
        "per_prompt": per_prompt,
        "most": most,
        "seed": seed,
    }
    refuse_occupied(out / IDENTITY, identity, KIND)
    pairs = make_pairs(chain.from_iterable(map(read_rows, data)), seed, per_prompt, most)
    write_pairs(out, pairs, identity)
    return pairs
