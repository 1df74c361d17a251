"""Detectors in curations: whether they can judge what rows require."""

from collections.abc import Sequence

from imagecot.contracts.metadata import Metadata
from imagecot.curation.schema import CorrectionRow, RankingRow
from imagecot.errors import ImagecotError
from imagecot.geneval.metadata import parse_metadata
from imagecot.worlds.find import classes_of


def requirements(rows: Sequence[RankingRow] | Sequence[CorrectionRow], detector: str, source: object) -> list[Metadata]:
    """Return what the images of rows must show; ImagecotError naming the row whose metadata no detector could judge."""
    classes = frozenset(classes_of(detector))
    known: dict[str, Metadata] = {}
    for row in rows:
        if row.metadata not in known:
            try:
                known[row.metadata] = parse_metadata(row.metadata, "its metadata", classes)
            except ImagecotError as error:
                raise ImagecotError(
                    f"the row {row.id[:80]!r} of {source} cannot be judged by {detector}: {error}"
                ) from None
    return [known[row.metadata] for row in rows]
