"""`push_to_hub`: a model, data or results as a repository of the hub, in one commit or not at all."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from imagecot import __version__
from imagecot.checkpoint import find_weights, is_checkpoint
from imagecot.downloads import git_name, why
from imagecot.errors import ImagecotError, UsageError
from imagecot.hub import HubId, hub_id, locate, related
from imagecot.models import digest_of
from imagecot.publishing import checkpoints, folders, scores
from imagecot.publishing.card import card_of
from imagecot.publishing.clean import check_secrets, is_text, local_path, without_paths
from imagecot.publishing.parcel import CARD, MODEL, Content, Parcel, bytes_of
from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

_AT_ONCE = 500  # files that are asked about at a time
_HERE = "the results that were given"


@dataclass(frozen=True)
class Published:
    """What is on the hub now.

    name     by which it is loaded
    digests  SHA-256 by role, as they were here
    lacks    what readers of the card will look for in vain, a sentence each
    """

    name: str
    url: str
    commit: str
    kind: str
    files: tuple[str, ...]
    digests: Mapping[str, str]
    lacks: tuple[str, ...] = ()


def push_to_hub(
    what: str | Path,
    repository: str,
    *,
    private: bool = False,
    base: str | None = None,
    results: str | Path | None = None,
    benchmark: str | None = None,
    watch: Watch = SILENT,
) -> Published:
    """Publish a checkpoint, curated data, an evaluation or a study.

    what        a shipped name or a folder
    repository  `owner/name`, of a checkpoint also `owner/name:folder`; it is made where it is not there
    private     make it so that only its owner can see it
    base        of an adapter: by which name others load its base; the weights there must be those here
    results     the folder of an evaluation or a study that measured these weights, whose scores go into the card
    benchmark   the repository of a data set with these prompts, on whose leaderboard the scores shall stand

    All files appear by one commit, with their digests compared afterwards. UsageError for what cannot be pushed, and
    ImagecotError where the hub refuses it; then nothing of it is published.
    """
    place, folder = _place(repository), _folder(str(what))
    named_base = _place(base) if base is not None else None
    parcel = _parcel(str(what), folder, named_base)
    _check_request(parcel, place, results, benchmark)
    found = scores.results_of(Path(results), parcel.digests) if results is not None else None
    said = str(named_base) if named_base else checkpoints.base_of(folder) if parcel.type == MODEL else None
    card = card_of(parcel, folder, place, base=said, results=found, benchmark=benchmark or _HERE)
    files: dict[str, Content] = {**parcel.files, CARD: card.text.encode()}
    if found is not None and benchmark is not None:
        files |= _result_files(found, benchmark)
    files = {name: _cleaned(name, content, parcel.kept) for name, content in sorted(files.items())}
    if place.folder:
        files = {f"{place.folder}/{name}": content for name, content in files.items()}
    with _asking(place), watch.waiting(f"pushing {len(files)} files to {place.repository}"):
        api = _api()
        if named_base is not None:
            _compare_base(api, folder, named_base)
        commit = _publish(api, parcel, place, files, private)
    url = f"{api.endpoint}/{'datasets/' * (parcel.type != MODEL)}{place.repository}"
    return Published(str(place), url, commit, parcel.kind, tuple(files), parcel.digests, card.lacks)


def _place(name: str) -> HubId:
    """A repository by its name; UsageError for a name that can be none."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    place = hub_id(name)
    try:
        validate_repo_id(place.repository if place else "/")
    except HFValidationError:
        place = None
    if place is None or place.revision != "main":
        raise UsageError(f"{name[:200]!r} names no repository; give owner/name, or owner/name:folder.")
    return place


def _folder(what: str) -> Path:
    folder = locate(what) if what.isprintable() else None
    if folder is None:
        raise UsageError(f"there is no {what[:200]!r}; give a shipped name, or the folder of a model, data or results.")
    return folder


def _parcel(what: str, folder: Path, base: HubId | None) -> Parcel:
    if is_checkpoint(folder):
        return checkpoints.parcel_of(what, folder, base)
    parcel = folders.parcel_of(folder)
    if parcel is None:
        raise UsageError(f"{folder} holds no checkpoint, curated data, evaluation or study; nothing to push.")
    return parcel


def _check_request(parcel: Parcel, place: HubId, results: object, benchmark: str | None) -> None:
    """Raise UsageError for options that mean nothing together."""
    if parcel.type != MODEL and (place.folder or results is not None):
        raise UsageError(f"{parcel.kind} has a repository of its own and no --results; leave the folder and them out.")
    if benchmark is not None and (results is None or place.folder or hub_id(benchmark) is None):
        raise UsageError("--benchmark OWNER/NAME is for --results, and for a model that has its own repository.")


def _result_files(found: scores.Results, benchmark: str) -> dict[str, Content]:
    from huggingface_hub import eval_result_entries_to_yaml

    return {
        name: yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True).encode()
        for name, entries in scores.in_files(found, benchmark).items()
    }


def _cleaned(name: str, content: Content, kept: bool) -> Content:
    """A file without what is about this machine; UsageError for a secret, or a path in what must stay as it is."""
    if not is_text(name):
        return content
    text = bytes_of(content).decode("utf-8", "surrogateescape")
    check_secrets(name, text)
    path = local_path(text)
    if path is None:
        return content
    if kept and name != CARD:
        raise UsageError(f"{name} names {path[:200]!r}, which only this machine has; name a hub id there.")
    return without_paths(text).encode("utf-8", "surrogateescape")


def _api() -> "HfApi":
    """The hub by HF_ENDPOINT, with the token of this user; UsageError where there is none, or no network is wanted."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UsageError("HF_HUB_OFFLINE is set, and nothing can be pushed; unset it.")
    if not get_token():
        raise UsageError("nobody is logged in to the hub; run hf auth login, or set HF_TOKEN to one that may write.")
    return HfApi(library_name="imagecot", library_version=__version__)


@contextmanager
def _asking(place: HubId) -> Iterator[None]:
    """Turn whatever the hub's library raises into one sentence, and keep its own bars and warnings off the terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    level, shown = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    except ImagecotError:
        raise
    except Exception as error:  # of the hub's library, of what it connects by, and of the disk
        raise ImagecotError(f"{place} was not pushed, and nothing of it is published ({why(error)}).") from error
    finally:
        logging.set_verbosity(level)
        if shown:
            enable_progress_bars()


def _compare_base(api: "HfApi", folder: Path, base: HubId) -> None:
    """Raise UsageError where the base of an adapter is another one on the hub than here."""
    name = checkpoints.base_of(folder)
    here = related(folder, name, locate) if name else None
    if here is None:
        return
    weights = {f"{base.folder}/{file.name}".lstrip("/"): file for file in find_weights(here)}
    there = {file.path: file for file in _listed(api, base.repository, MODEL, [*weights], "main")}
    for path, file in weights.items():
        found = there.get(path)
        if found is None or found.lfs is None or found.lfs.sha256 != digest_of([file]):
            raise UsageError(
                f"--base {base}: {path} there is {'not' if found else 'missing, and not'} the {name!r} that the "
                "adapter was trained on; push that one."
            )


def _publish(api: "HfApi", parcel: Parcel, place: HubId, files: Mapping[str, Content], private: bool) -> str:
    """Make the repository hold the files by one commit, and return its name; ImagecotError where they are others."""
    from huggingface_hub import CommitOperation, CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.hf_api import RepoFile as File

    api.create_repo(place.repository, repo_type=parcel.type, private=private or None, exist_ok=True)
    before = api.repo_info(place.repository, repo_type=parcel.type)
    if private and not before.private:
        raise UsageError(f"{place.repository} is there and public; make it private on its page first.")
    there = api.list_repo_tree(place.repository, recursive=True, repo_type=parcel.type)
    inside = f"{place.folder}/" if place.folder else ""
    gone = [
        one.path
        for one in there
        if isinstance(one, File) and one.path not in files and _is_stale(one.path, inside, parcel)
    ]
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    api.preupload_lfs_files(place.repository, added, repo_type=parcel.type, free_memory=False)
    operations: list[CommitOperation] = [*(CommitOperationDelete(path, is_folder=False) for path in gone), *added]
    message = f"Push {parcel.kind} by imagecot {__version__}"
    try:
        commit = api.create_commit(
            place.repository, operations, commit_message=message, repo_type=parcel.type, parent_commit=before.sha
        ).oid
    except Exception:
        arrived = _arrived(api, parcel, place, files, before.sha)
        if arrived is None:
            raise
        commit = arrived
    wrong = _different(api, parcel, place, files, commit)
    if wrong:
        raise ImagecotError(f"{wrong} is not on the hub as it was sent to {place}; push again before anybody uses it.")
    return commit


def _is_stale(path: str, inside: str, parcel: Parcel) -> bool:
    """Whether an earlier push left a file, which would stand beside those of this one; patterns stay in a folder."""
    name = path.removeprefix(inside)
    if parcel.type == MODEL and "/" in name:  # another model, or a part, which nobody looks for any more
        return name.startswith(".eval_results/") and not inside
    return path.startswith(inside) and any(fnmatch(name, pattern) for pattern in parcel.stale)


def _arrived(
    api: "HfApi", parcel: Parcel, place: HubId, files: Mapping[str, Content], before: str | None
) -> str | None:
    """The commit that came through although its answer did not; None where none did.

    ImagecotError where nobody can say.
    """
    try:
        now = api.repo_info(place.repository, repo_type=parcel.type).sha
    except Exception as error:
        raise ImagecotError(
            f"{place}: the connection broke off, and whether it is published is not known; look at its page, or push "
            "again."
        ) from error
    return now if now != before and now and not _different(api, parcel, place, files, now) else None


def _different(api: "HfApi", parcel: Parcel, place: HubId, files: Mapping[str, Content], commit: str) -> str | None:
    """The first file that is not in a commit, or by other bytes."""
    there = {file.path: file for file in _listed(api, place.repository, parcel.type, [*files], commit)}
    return next((name for name, content in files.items() if not _same(there.get(name), content)), None)


def _listed(api: "HfApi", repository: str, kind: str, names: list[str], revision: str) -> Iterator["RepoFile"]:
    from huggingface_hub.hf_api import RepoFile as File

    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        for one in api.get_paths_info(repository, some, repo_type=kind, revision=revision):
            if isinstance(one, File):
                yield one


def _same(there: "RepoFile | None", content: Content) -> bool:
    if there is None:
        return False
    if there.lfs is None:
        return there.blob_id == git_name(bytes_of(content))
    if isinstance(content, Path):
        return there.lfs.sha256 == digest_of([content])
    return there.lfs.sha256 == hashlib.sha256(content).hexdigest()
