"""Scores as they are written: `clip:MODEL`, or `clip:MODEL@MIDDLE`.

MODEL is a folder or a hub id of a CLIP, such as openai/clip-vit-large-patch14 or yuvalkirstain/PickScore_v1, or of a
SigLIP. MIDDLE is the logit, a number, at which P(yes) is one half: `clip:yuvalkirstain/PickScore_v1@21`. A folder whose
name ends in @ and a number is written with a middle. A class of a module that is called clip is written with the
package that the module is in.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot.checkpoint import ADAPTER, CONFIG, find_weights, is_file, read_config
from imagecot.errors import UsageError
from imagecot.hub import CLIP, PREPROCESSOR, find, hub_id, locate
from imagecot.precision import Device, Dtype

if TYPE_CHECKING:
    from imagecot.verifiers.scores import Score

KINDS = ("clip", "siglip")
"""What is scored with, by `model_type` of config.json."""
_FORM = re.compile(r"clip:(?P<model>.*?)(?:@(?P<middle>-?\d+(?:\.\d+)?))?")
_FILES = (*CLIP, PREPROCESSOR, "special_tokens_map.json", "spiece.model")
_TEXT = ("tokenizer*.json", "vocab.json", "merges.txt", "special_tokens_map.json", "spiece.model")
_MOST = 1000.0  # of a logit: more than any scale makes of a cosine


def parts(text: str) -> list[tuple[str, str]]:
    """No models of the registry; UsageError for a name that can be no model, or is one of another kind."""
    name, _ = _read(text)
    folder = locate(name)
    if folder is None and hub_id(name) is None:
        raise UsageError(f"{text}: there is no model {name[:60]!r}; give a folder or hub id of a CLIP or a SigLIP.")
    if folder is not None:
        _check_kind(text, folder)
    return []


def renamed(text: str, rename: Callable[[str], str]) -> str:
    """The text: it names no verifier."""
    return text


def load(text: str, device: Device, dtype: Dtype) -> "Score":
    """Load a score; errors as of `imagecot.verifiers.scores.load_score`."""
    from imagecot.verifiers.scores import load_score

    name, middle = _read(text)
    folder = _folder(text, name)
    _check_kind(text, folder)
    return load_score(folder, device, dtype, name=f"clip:{name}", middle=middle)


def digests(text: str) -> Mapping[str, str]:
    """SHA-256 of the weights, and of what prepares texts and images."""
    from imagecot.models import digest_of

    folder = _folder(text, _read(text)[0])
    found = {file for pattern in (CONFIG, PREPROCESSOR, *_TEXT) for file in folder.glob(pattern)}
    return {"clip": digest_of(find_weights(folder)), "clip_settings": digest_of(sorted(filter(is_file, found)))}


def _read(text: str) -> tuple[str, float | None]:
    """The model and the middle; UsageError where there is none, or the middle is too large."""
    found = _FORM.fullmatch(text)
    if found is None or not found["model"].strip():
        raise UsageError(f"{text} names no model; write clip:MODEL, such as clip:openai/clip-vit-large-patch14.")
    middle = None if found["middle"] is None else float(found["middle"])
    if middle is not None and abs(middle) > _MOST:
        raise UsageError(f"{text}: the middle must be from -{_MOST:g} to {_MOST:g}, not {found['middle'][:20]}.")
    return found["model"], middle


def _folder(text: str, name: str) -> Path:
    folder = find(name, _FILES)
    if folder is None:
        raise UsageError(f"{text}: there is no model {name[:60]!r}; give a folder or hub id of a CLIP or a SigLIP.")
    return folder


def _check_kind(text: str, folder: Path) -> None:
    adapter = is_file(folder / ADAPTER) and not is_file(folder / CONFIG)
    if adapter or read_config(folder).get("model_type") not in KINDS:
        raise UsageError(f"{text}: {folder} is neither a CLIP nor a SigLIP by its {CONFIG}; name one that is.")
