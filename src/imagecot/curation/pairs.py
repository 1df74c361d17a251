"""Preference pairs: of each prompt an image that fulfils it and one that does not (paper, section 2.3)."""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from imagecot.curation.dataset import read_rows
from imagecot.curation.recipes import CuratePairs
from imagecot.curation.schema import PAIRS, PairRow, RankingRow
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


def make_pairs(rows: Iterable[RankingRow], seed: int, per_prompt: int = 1, most: int | None = None) -> list[PairRow]:
    """Return pairs of ranking rows of the question orm, `per_prompt` of each prompt where there are so many.

    Images that were drawn again meet others drawn again from the same image: that counts as a prompt of its own.
    Prompts whose images all have one label are left out. Which images meet depends on (seed, prompt) alone; of more
    than `most` pairs those of a random choice of prompts are kept.

    UsageError where there is no pair; ImagecotError where an image has both labels, or where the two images of a pair
    have different numbers of codes.
    """
    by_prompt: dict[tuple[str, ...], dict[str, list[RankingRow]]] = {}
    for row in rows:
        if row.question == "orm":
            again = (str(row.before_codes), row.told or "") if row.before_codes else ()
            by_prompt.setdefault((row.prompt, *again), {"yes": [], "no": []})[row.label].append(row)
    prompts = sorted(by_prompt)
    random.Random(seed).shuffle(prompts)
    pairs: list[PairRow] = []
    for prompt in prompts:
        sides = by_prompt[prompt]
        rng = random.Random(":".join((str(seed), *prompt)))
        for side in sides.values():
            side.sort(key=lambda row: row.id)
            rng.shuffle(side)
        pairs += [_pair(*both) for both in list(zip(sides["yes"], sides["no"], strict=False))[:per_prompt]]
    if not pairs:
        raise UsageError("no prompt of this data has both a yes and a no image of the question orm; draw more paths.")
    return unique_ids(pairs[:most])


def _pair(chosen: RankingRow, rejected: RankingRow) -> PairRow:
    if chosen.image == rejected.image:
        raise ImagecotError(
            f"the image {rejected.id[:80]!r} of {chosen.prompt[:60]!r} has both labels; "
            "leave out one of the folders it is in."
        )
    if len({len(row.codes) for row in (chosen, rejected) if row.codes}) > 1:
        raise ImagecotError(
            f"the images of {chosen.prompt[:60]!r} differ in their codes; curate all with one generator."
        )
    return PairRow(
        id=f"{chosen.id}/{rejected.id}",
        prompt=chosen.prompt,
        task=chosen.task,
        metadata=chosen.metadata,
        chosen_seed=chosen.seed,
        rejected_seed=rejected.seed,
        chosen=chosen.image,
        rejected=rejected.image,
        chosen_codes=chosen.codes,
        rejected_codes=rejected.codes,
        before_codes=chosen.before_codes,
        told=chosen.told,
    )


def write_pairs(out: Path, pairs: Sequence[PairRow], identity: Identity) -> None:
    """Write pairs as one shard with a card; UsageError where `out` holds something else."""
    claim_shards(out, identity)
    write_shard(out / "data" / "00000.parquet", pairs, PAIRS)
    card = f"""# Preference pairs

{len(pairs)} pairs of {len({pair.prompt for pair in pairs})} prompts.

Columns: id, prompt, task, metadata (GenEval's requirement, JSON), seeds of both paths, chosen and rejected image,
and the generator's codes of both where they were kept; of images that were drawn again the codes of the image before
(before_codes) and what was said of it (told).
"""
    write_card(out, "text-to-image", card)


def read_pairs(folder: str | Path) -> Iterator[PairRow]:
    """Every pair of a folder of `write_pairs`; ImagecotError naming shard, row and field for what is no pair."""
    for _, row in read_shards(folder, PAIRS):
        yield row


def curate_pairs(recipe: CuratePairs) -> list[PairRow]:
    """Write the pairs of folders of ranking data; returns them.

    UsageError where a folder is named twice, where there is no pair, or where the output holds something else.
    """
    identity: Identity = {
        "kind": "pairs",
        "data_sha256": contents(recipe.data, "--data"),
        "per_prompt": recipe.per_prompt,
        "most": recipe.most,
        "seed": recipe.seed,
    }
    refuse_occupied(recipe.output / IDENTITY, identity, KIND)
    rows = chain.from_iterable(map(read_rows, recipe.data))
    pairs = make_pairs(rows, recipe.seed, recipe.per_prompt, recipe.most)
    write_pairs(recipe.output, pairs, identity)
    return pairs
