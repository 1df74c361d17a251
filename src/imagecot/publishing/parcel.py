"""What is pushed: files by the names that they will have in a repository, and what the card says of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.reading import parse_object, read_bytes

Content = Path | bytes
CARD = "README.md"
MODEL, DATASET = "model", "dataset"  # what the hub calls its kinds of repositories


@dataclass(frozen=True)
class Parcel:
    """A repository in the making.

    kind     in words: a generator, an adapter, curated data
    type     MODEL or DATASET
    files    without the card
    stale    patterns of what an earlier push may have left, which goes where this one has none of that name
    digests  SHA-256 by role, of a model; by which whoever loads it can tell that it is the same
    kept     what must stay as it is: a local path in it cannot be replaced
    """

    kind: str
    type: str
    files: Mapping[str, Content]
    stale: Sequence[str]
    digests: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False


def bytes_of(content: Content) -> bytes:
    """What a file will hold."""
    return content if isinstance(content, bytes) else read_bytes(content)


def rewritten(file: Path, **changes: JSON) -> bytes:
    """A JSON object in a file with some of its fields changed."""
    values = parse_object(read_bytes(file), str(file), failure=UsageError, advice="copy it again")
    return (json.dumps(values | changes, indent=2, ensure_ascii=False) + "\n").encode()
