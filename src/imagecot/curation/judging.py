"""Detectors in curations: what their answers depend on, and whether they can judge what rows require."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from imagecot import models as names
from imagecot.curation.dataset import Row
from imagecot.errors import ImagecotError
from imagecot.geneval.metadata import Metadata, parse_metadata
from imagecot.reading import read_bytes
from imagecot.worlds.choice import CLIP, classes_of


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


def weights_of_detector(detector: str) -> dict[str, str]:
    """Return SHA-256 of all that a detector consists of, as far as it is on disk."""
    from imagecot.worlds.drawn.detector import DETECTORS

    if detector in DETECTORS:
        return names.weights_of("detector", DETECTORS[detector])
    file = Path(detector)
    own = {"detector": hashlib.sha256(read_bytes(file)).hexdigest()} if file.is_file() else {}
    return (own or names.weights_of("detector", detector)) | names.weights_of("clip", CLIP)
