"""Preference pairs as the codes that a generator is trained on, from curated Parquet or the paper's `dpo.jsonl`."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from rich.progress import track
from torch import Tensor, nn

from imagecot.curation.dataset import BEFORE, TOLD
from imagecot.curation.pairs import read_pairs
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import clear_write_errors, write_atomically
from imagecot.generators.paths import Asked, Correction
from imagecot.generators.showo import MagvitV2
from imagecot.images import from_picture

_A_PART = 256  # what a killed run computes again at most
Source = tuple[str, Callable[[], Image.Image]]  # where an image is, for messages, and what opens it


@dataclass(frozen=True)
class Pairs:
    """P pairs: ids, prompts, what was wrong before where they were drawn again, and both codes (P, N) int64."""

    ids: list[str]
    prompts: list[str]
    corrections: list[Correction | None]
    chosen: Tensor
    rejected: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def asked(self) -> list[Asked]:
        """What each pair was drawn from."""
        both = zip(self.prompts, self.corrections, strict=True)
        return [prompt if correction is None else (prompt, correction) for prompt, correction in both]

    def select(self, indices: list[int]) -> "Pairs":
        """The pairs at `indices`."""
        ids, prompts = ([names[k] for k in indices] for names in (self.ids, self.prompts))
        corrections = [self.corrections[k] for k in indices]
        return Pairs(ids, prompts, corrections, self.chosen[indices], self.rejected[indices])


def load_pairs(source: Path, tokenizer: MagvitV2, cache: Path) -> Pairs:
    """Read the pairs of a folder of `curate pairs`, or of a `dpo.jsonl` whose image paths start from its own folder.

    Images without codes are encoded by `tokenizer` once; `cache` keeps what was computed. UsageError where there are
    no pairs; ImagecotError naming the line or image that cannot be read.
    """
    jsonl = source.suffix == ".jsonl"
    rows: list[dict[str, Any]] = _read_jsonl(source) if jsonl else list(read_pairs(source))
    if not rows:
        raise UsageError(f"{source} has no pairs; curate some first.")
    if all(row.get("chosen_codes") and row.get("rejected_codes") for row in rows):
        codes = [torch.tensor([row[f"{side}_codes"] for row in rows]) for side in ("chosen", "rejected")]
    else:
        images = [_source(row[side], row["id"]) for side in ("chosen", "rejected") for row in rows]
        identity = [row["id"] for row in rows] if not jsonl else source.read_text(encoding="utf-8")
        key = digest(json.dumps(identity).encode(), fingerprint(tokenizer))
        encoded = in_parts(
            cache / f"codes-{key}", len(images), lambda a, b: _encode(tokenizer, images[a:b]), "encoding pictures"
        )
        codes = list(encoded.long().chunk(2))
    positions = tokenizer.config.num_codes
    if codes[0].shape[1] != positions or codes[1].shape[1] != positions:
        raise UsageError(f"the images of {source} have {codes[0].shape[1]} codes, the generator's {positions}.")
    device = next(tokenizer.parameters()).device
    chosen, rejected = (side.to(device) for side in codes)
    corrections = [
        Correction(torch.tensor(row[BEFORE], device=device), row.get(TOLD) or "") if row.get(BEFORE) else None
        for row in rows
    ]
    return Pairs([row["id"] for row in rows], [row["prompt"] for row in rows], corrections, chosen, rejected)


def in_parts(folder: Path, count: int, compute: Callable[[int, int], Tensor], what: str) -> Tensor:
    """Compute a tensor of `count` rows by `compute(first, last)`, a part at a time, each kept in `folder`."""
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in track(range(0, count, _A_PART), description=what, transient=True):
        file = folder / f"{first:07d}.pt"
        if not file.is_file():
            part = compute(first, min(first + _A_PART, count)).cpu()
            write_atomically(file, lambda path, part=part: torch.save(part, path))  # type: ignore[misc]
        parts.append(torch.load(file, weights_only=True))
    return torch.cat(parts)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of the weights of a model."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def digest(*parts: bytes | str) -> str:
    """A short name for what is computed from `parts`."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:16]


def _read_jsonl(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error}); give a folder of curate pairs or a dpo.jsonl.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt, sides = str(row["prompt"]), [file.parent / row[side] for side in ("chosen", "rejected")]
        except (ValueError, KeyError, TypeError):
            raise ImagecotError(f"line {number} of {file} lacks prompt, chosen or rejected; correct it.") from None
        rows.append({"id": f"line {number}", "prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
    return rows


def _source(image: Path | dict[str, Any], row: str) -> Source:
    if isinstance(image, Path):
        return str(image), lambda: Image.open(image)
    return f"an image of the pair {row}", lambda: Image.open(io.BytesIO(image["bytes"]))


@torch.no_grad()
def _encode(tokenizer: MagvitV2, images: list[Source], batch: int = 32) -> Tensor:
    """Codes (B, N) int16 of images, cut to a square and resized as the image tokenizer needs it."""
    size, device = tokenizer.config.image_size, next(tokenizer.parameters()).device
    found = []
    for where, read in images:
        try:
            picture = ImageOps.fit(read().convert("RGB"), (size, size), Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError) as error:
            raise ImagecotError(f"{where} cannot be read ({error}); restore it or remove its line.") from None
        found.append(from_picture(picture))
    return torch.cat([tokenizer.codes(part.to(device)).to(torch.int16) for part in torch.stack(found).split(batch)])
