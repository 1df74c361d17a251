"""Downloads from the Hugging Face hub: whole, with the digests that the hub says, and failures told in half a sentence.

The hub's library compares the size of what it fetches. The names of what lies in its cache are digests, and we take
them for digests: so what is new there is hashed once.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagecot.errors import first_line
from imagecot.naming import printable

_SHA1, _SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")
_CLIENTS = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}  # what versions of the library ask by
_XET = "/xet-"  # in addresses of its newer storage, which answers in a library of its own
_STATUS = {
    401: "the token is not known there; run hf auth login, or set HF_TOKEN",
    403: "the token may not do that; take one that has the right",
    404: "there is none of that name, or the token may not see it",
    409: "another request is changing it; try again",
    412: "somebody else has changed it meanwhile; try again",
    413: "that is too large for it",
}


class WrongDigest(Exception):
    """A file that came has other bytes than the hub says."""


def why(error: BaseException) -> str:
    """Say in half a sentence why the hub or the way to it failed, and what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RevisionNotFoundError

    for one in _causes(error):
        if isinstance(one, WrongDigest):
            return f"{one}; try again"
        if isinstance(one, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set; unset it"
        if isinstance(one, GatedRepoError):
            return "who wants it must ask for access on its page"
        if isinstance(one, RevisionNotFoundError):
            return "there is no such revision of it"
        if isinstance(one, HfHubHTTPError):
            return _of_status(one.response.status_code, one.response.headers.get("Retry-After"))
        if _XET in str(one):
            return "its Xet storage failed; try again, or set HF_HUB_DISABLE_XET=1 where it has none"
    if any(type(one).__module__.partition(".")[0] in _CLIENTS for one in _causes(error)):
        return "the connection failed or broke off; try again"
    return printable(first_line(error))[:200].rstrip(".")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_status(status: int, wait: str | None) -> str:
    if status == 429:
        asked = f"{int(wait)} seconds" if wait and wait.isdigit() else "some minutes"
        return f"429: it is asked too often; try again in {asked}"
    advice = "it has failed; try again later" if status >= 500 else "it refuses that"
    return f"{status}: {_STATUS.get(status, advice)}"


def download(repository: str, *, kind: str = "model", revision: str | None = None, only: Sequence[str] = ()) -> Path:
    """Fetch what the hub's cache lacks of a repository, and return the folder of the snapshot.

    kind  model or dataset
    only  patterns of the files wanted; all where there are none

    Whatever the library raises; WrongDigest where bytes differ from what the hub says: then they are not kept.
    """
    from huggingface_hub import constants, snapshot_download

    blobs = Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}" / "blobs"
    before = set(blobs.glob("*"))
    try:
        folder = Path(snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=[*only] or None))
    finally:
        wrong = [blob for blob in sorted({*blobs.glob("*")} - before) if not _is_itself(blob)]
        for blob in wrong:
            blob.unlink()
    if wrong:
        names = [file.name for file in folder.rglob("*") if file.is_symlink() and not file.exists()]
        raise WrongDigest(f"{names[0] if names else 'a file'} came with other bytes than it should have")
    return folder


def _is_itself(blob: Path) -> bool:
    """Whether a file of the cache holds what its name says: a SHA-256, or git's name of it."""
    if _SHA256.fullmatch(blob.name):
        with blob.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest() == blob.name
    return git_name(blob.read_bytes()) == blob.name if _SHA1.fullmatch(blob.name) else True


def git_name(data: bytes) -> str:
    """What git calls a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
