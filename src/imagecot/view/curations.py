"""A curation's folder as a source: labelled images, pairs or corrections by prompt, each question a method."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from imagecot.curation.schema import CORRECTIONS, PAIRS, RANKING, CorrectionRow, Form, PairRow, RankingRow, Row
from imagecot.curation.shards import IDENTITY, read_shards, shards
from imagecot.errors import ImagecotError, first_line
from imagecot.identity import read_identity
from imagecot.view import model
from imagecot.view.evaluations import wanted_of
from imagecot.view.pictures import Pictures
from imagecot.view.runs import spelled

AnyRow = RankingRow | PairRow | CorrectionRow
Shown = tuple[str, list[model.Shown]]  # the method that an image belongs to, and what is shown of a row


def read_curation(folder: Path, pictures: Pictures) -> model.Source:
    """Read curated data; ImagecotError naming what is damaged."""
    columns = _columns(shards(folder)[0])
    if "label" in columns:
        return _source(folder, RANKING, lambda row: _labelled(row, pictures), "labelled images")
    if "chosen" in columns:
        return _source(folder, PAIRS, lambda row: _pair(row, pictures), "pairs")
    return _source(folder, CORRECTIONS, lambda row: _correction(row, pictures), "corrections")


def _columns(file: Path) -> list[str]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            names: list[str] = parquet.schema_arrow.names
            return names
    except Exception as error:  # of a damaged file the decoders raise what they like
        raise ImagecotError(f"{file} is damaged ({first_line(error)[:200]}); delete it and curate again.") from None


def _source(folder: Path, form: Form[Row], show: Callable[[Row], Shown], what: str) -> model.Source:
    grouped: dict[tuple[str, str, str], list[model.Shown]] = {}
    wanted: dict[str, str] = {}
    count = 0
    for _, row in read_shards(folder, form):
        method, images = show(row)
        grouped.setdefault((method, row.task, row.prompt), []).extend(images)
        wanted.setdefault(row.prompt, wanted_of(row.metadata))
        count += 1
    facts = _facts(folder)
    names = list(dict.fromkeys(method for method, _, _ in grouped))
    methods = [model.Method(name, f"{folder.name}: {name}", ["label"], facts=facts) for name in names]
    entries = [
        model.Entry(method, prompt, task, _mark(images), wanted[prompt], images=images)
        for (method, task, prompt), images in grouped.items()
    ]
    headline = f"{count} {what} of {len({prompt for _, _, prompt in grouped})} prompts."
    return model.Source(folder.name, "curation", headline, methods, entries, facts)


def _facts(folder: Path) -> dict[str, str]:
    file = folder / IDENTITY
    known = read_identity(file) if file.is_file() else {}
    plain = {key: value for key, value in known.items() if isinstance(value, str | int | float)}
    return {key.replace("_", " "): spelled(value) for key, value in plain.items() if "sha256" not in key}


def _mark(images: Sequence[model.Shown]) -> model.Mark:
    judged = [one.right[0] for one in images if one.right]
    disagree = any(one.facts.get("agrees with the final image") == "no" for one in images)
    flags = model.DISAGREE if disagree else ""
    right = [(sum(bool(one) for one in judged), len(judged))] if judged else []
    return model.Mark(right, None, flags, images[0].picture)


def _labelled(row: RankingRow, pictures: Pictures) -> Shown:
    facts = {
        "question": row.question,
        "step": f"{row.step} of {row.steps}",
        "seed": str(row.seed),
        "label": row.label,
        "agrees with the final image": row.agreement,
        "fill": row.fill or "",
        "told": row.told or "",
    }
    why = [row.reasons] if row.reasons else []
    return row.question, [model.Shown(pictures.data(row.image), [row.label == "yes"], why, facts=facts)]


def _pair(row: PairRow, pictures: Pictures) -> Shown:
    told = {"told": row.told or ""}
    return "pairs", [
        model.Shown(pictures.data(row.chosen), [True], facts={"chosen": f"seed {row.chosen_seed}", **told}),
        model.Shown(pictures.data(row.rejected), [False], facts={"rejected": f"seed {row.rejected_seed}", **told}),
    ]


def _correction(row: CorrectionRow, pictures: Pictures) -> Shown:
    apart = "" if row.difference is None else f"{row.difference:.3f}"
    return "corrections", [*_of_correction(row, pictures, apart)]


def _of_correction(row: CorrectionRow, pictures: Pictures, apart: str) -> Iterator[model.Shown]:
    rejected, accepted = (None if image is None else pictures.data(image) for image in (row.rejected, row.accepted))
    yield model.Shown(rejected, [False], [row.reasons], facts={"rejected": f"seed {row.rejected_seed}"})
    facts = {"accepted": f"seed {row.accepted_seed}", "mean difference of pixels": apart}
    yield model.Shown(accepted, [True], facts=facts)
