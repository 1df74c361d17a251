"""`pull_from_hub`: data and results of the hub as a folder that every command takes."""

import shutil
from pathlib import Path

from imagecot.downloads import download, why
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import check_writable, write_folder
from imagecot.hub import hub_id
from imagecot.publishing.parcel import DATASET


def pull_from_hub(name: str, out: str | Path) -> Path:
    """Copy curated data, an evaluation or a study to a folder, and return it.

    name  `owner/name` of a repository of a data set, or `owner/name@revision`
    out   an empty folder, or one to be made

    Bytes are compared with the digests that the hub says. Models need no copy: each is loaded by its name.

    UsageError for a name that is none, or a folder that holds something; ImagecotError where it cannot be fetched.
    """
    place, folder = hub_id(name), Path(out)
    if place is None or place.folder:
        raise UsageError(f"{name!r} names no repository; give owner/name or owner/name@revision.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; choose another one.")
    check_writable(folder)
    try:
        snapshot = download(place.repository, kind=DATASET, revision=place.revision)
    except Exception as error:  # of the hub's library, of what it connects by, and of the disk
        raise ImagecotError(f"{place} cannot be fetched ({why(error)}).") from error
    files = [file for file in sorted(snapshot.rglob("*")) if file.is_file()]
    if not files:
        raise ImagecotError(f"{place} holds no files; nothing was fetched.")

    def copy(partial: Path) -> None:
        for file in files:
            where = partial / file.relative_to(snapshot)
            where.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, where)

    write_folder(folder, copy)
    return folder
