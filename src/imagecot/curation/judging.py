"""Detectors in curations: whether they can judge what rows require."""

from collections.abc import Sequence

from imagecot.contracts.metadata import Metadata
from imagecot.curation.dataset import Row
from imagecot.errors import ImagecotError
from imagecot.geneval.metadata import parse_metadata
from imagecot.worlds.find import classes_of


def requirements(rows: Sequence[Row], detector: str, source: object) -> list[Metadata]:
    """Return what the images of rows must show; ImagecotError naming the row whose metadata no detector could judge."""
    classes = frozenset(classes_of(detector))
    known: dict[str, Metadata] = {}
    for row in rows:
        text = row["metadata"]
        if text not in known:
            try:
                known[text] = parse_metadata(text, "its metadata", classes)
            except ImagecotError as error:
                raise ImagecotError(
                    f"the row {row['id'][:80]!r} of {source} cannot be judged by {detector}: {error}"
                ) from None
    return [known[row["metadata"]] for row in rows]
