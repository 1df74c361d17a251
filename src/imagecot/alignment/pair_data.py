"""Preference pairs as the codes that a generator is trained on, from curated Parquet or the paper's `dpo.jsonl`."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from imagecot.contracts.correction import Asked, Correction
from imagecot.contracts.generator import Encoder, Generator
from imagecot.curation.pairs import read_pairs
from imagecot.curation.schema import PairRow
from imagecot.errors import ImagecotError, UsageError
from imagecot.images import from_picture, open_picture
from imagecot.prompts import check_prompt, check_prompts
from imagecot.reading import Foreign, read_bytes, read_records
from imagecot.training.output import digest_of, shards_of
from imagecot.training.parts import check_codes, digest, in_parts
from imagecot.watch import SILENT, Watch

_ADVICE = "correct or remove the line"


class _Line(Foreign):
    """A line of dpo.jsonl."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class _Source:
    """A picture: where it is, for messages, and its file or its bytes."""

    where: str
    data: Path | bytes

    def digest(self) -> bytes:
        """SHA-256 of the file's content; ImagecotError where it cannot be read."""
        if isinstance(self.data, bytes):
            return hashlib.sha256(self.data).digest()
        try:
            return hashlib.sha256(read_bytes(self.data, advice="restore it or remove the line")).digest()
        except ImagecotError as error:
            raise ImagecotError(f"{self.where}: {error}") from None

    def picture(self) -> Image.Image:
        """The picture; ImagecotError where it cannot be read."""
        return open_picture(self.data, f"{self.where}: {self.data}" if isinstance(self.data, Path) else self.where)


@dataclass(frozen=True)
class _Row:
    """A pair as it was read: both pictures and what is known of it; `name` is for messages."""

    id: str
    name: str
    prompt: str
    chosen: _Source
    rejected: _Source
    chosen_codes: Sequence[int] | None = None
    rejected_codes: Sequence[int] | None = None
    before_codes: Sequence[int] | None = None
    told: str = ""

    @classmethod
    def of(cls, pair: PairRow, folder: Path) -> "_Row":
        """A pair of a folder of `curate pairs`."""
        name = f"the pair {pair.id} of {folder}"
        return cls(
            pair.id,
            name,
            pair.prompt,
            _Source(f"the chosen image of {name}", pair.chosen),
            _Source(f"the rejected image of {name}", pair.rejected),
            pair.chosen_codes,
            pair.rejected_codes,
            pair.before_codes,
            pair.told or "",
        )

    @property
    def is_coded(self) -> bool:
        """Whether the codes of both images are known."""
        return bool(self.chosen_codes and self.rejected_codes)


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

    @property
    def alike(self) -> list[str]:
        """The ids of pairs whose images, of different files, have the same codes: they teach nothing."""
        both = (self.chosen == self.rejected).all(1).tolist()
        return [name for name, same in zip(self.ids, both, strict=True) if same]

    def select(self, indices: list[int]) -> "Pairs":
        """The pairs at `indices`."""
        ids, prompts = ([names[k] for k in indices] for names in (self.ids, self.prompts))
        corrections = [self.corrections[k] for k in indices]
        return Pairs(ids, prompts, corrections, self.chosen[indices], self.rejected[indices])


def content_of(source: Path) -> str:
    """A short name for the content of the pairs that `load_pairs` reads; the same errors for what is not there."""
    if source.suffix != ".jsonl":
        return shards_of(source)
    rows = _read_jsonl(source)
    if not rows:
        raise UsageError(f"{source} has no pairs; curate some first.")
    return digest(digest_of([source]), *_digests(rows))


def load_pairs(
    source: Path,
    generator: Generator,
    cache: Path,
    *,
    known_as: str = "",
    device: torch.device | None = None,
    watch: Watch = SILENT,
) -> Pairs:
    """Read the pairs of a folder of `curate pairs`, or of a `dpo.jsonl` whose image paths start from its own folder.

    generator  what is trained: its codes, and the prompts that it can read
    cache      keeps what was computed
    known_as   tells the generator from others that encode images otherwise
    device     of the codes

    Images without codes are encoded once. UsageError where there are no pairs, for a prompt that cannot be trained on,
    or where codes are missing and the generator is no `Encoder`; ImagecotError naming the line or image that cannot be
    read, and for a pair of the same image twice, which teaches nothing.
    """
    of_lines = source.suffix == ".jsonl"
    rows = _read_jsonl(source) if of_lines else [_Row.of(pair, source) for pair in read_pairs(source)]
    if not rows:
        raise UsageError(f"{source} has no pairs; curate some first.")
    _check_prompts(rows, generator)
    positions, codebook = generator.canvas.positions, generator.canvas.codes
    if all(row.is_coded for row in rows):
        chosen = codes_of([(row.name, row.chosen_codes or ()) for row in rows], "chosen_codes", positions, codebook)
        rejected = codes_of(
            [(row.name, row.rejected_codes or ()) for row in rows], "rejected_codes", positions, codebook
        )
        _refuse_alike(rows, (chosen == rejected).all(1).tolist())
    else:
        chosen, rejected = _encoded(rows, generator, cache, known_as, watch).chunk(2)
    again = [(row.name, row.before_codes) for row in rows if row.before_codes]
    before: Iterator[Tensor] = iter(codes_of(again, "before_codes", positions, codebook) if again else [])
    corrections = [Correction(next(before).to(device), row.told) if row.before_codes else None for row in rows]
    ids, prompts = [row.id for row in rows], [row.prompt for row in rows]
    return Pairs(ids, prompts, corrections, chosen.to(device), rejected.to(device))


def _read_jsonl(file: Path) -> list[_Row]:
    advice = "a line needs prompt, chosen and rejected as text, the latter two as paths of pictures"
    rows = []
    for number, line in read_records(file, _Line, failure=UsageError, advice=advice):
        name = f"line {number} of {file}"
        chosen, rejected = (_Source(name, file.parent / path) for path in (line.chosen, line.rejected))
        rows.append(_Row(f"line {number}", name, line.prompt, chosen, rejected))
    return rows


def _check_prompts(rows: Sequence[_Row], generator: Generator) -> None:
    """Raise UsageError naming the row whose prompt, with what was told of the image before, cannot be trained on."""
    seen: set[str] = set()
    for row in rows:
        try:
            prompt = check_prompt(row.prompt)
            text = " ".join(filter(None, (prompt, row.told if row.before_codes else "")))
            if text not in seen:
                check_prompts([text], generator)
            seen.add(text)
        except UsageError as error:
            raise UsageError(f"{row.name}: {error}") from None


def codes_of(rows: Sequence[tuple[str, Sequence[int]]], column: str, positions: int, codebook: int) -> Tensor:
    """The codes (P, N) int64 of rows, of each its name and codes; UsageError for those of another image tokenizer.

    column  what messages call the codes
    """
    for name, codes in rows:
        if len(codes) != positions:
            raise UsageError(
                f"{name} has {len(codes)} {column}, the generator's images {positions}; "
                "curate with the generator that is trained."
            )
        wrong = [code for code in codes if type(code) is not int or not 0 <= code < codebook]
        if wrong:
            raise UsageError(
                f"{name} has the code {wrong[0]!r} in {column}, but the generator's are 0 to "
                f"{codebook - 1}; curate with the generator that is trained."
            )
    return torch.tensor([codes for _, codes in rows])


def _encoded(rows: Sequence[_Row], generator: Generator, cache: Path, known_as: str, watch: Watch) -> Tensor:
    """Codes (2 P, N) int64 of all chosen, then all rejected images; named in `cache` by the content of all of them."""
    if not isinstance(generator, Encoder):
        raise UsageError(
            f"{rows[0].name} has pictures without codes, and this generator finds no codes of pictures (it is no "
            "Encoder); curate pairs with the generator that is trained."
        )
    images = [row.chosen for row in rows] + [row.rejected for row in rows]
    folder = cache / f"codes-{digest(*_digests(rows), known_as)}"
    encode, size = generator.encode, generator.canvas.image

    def compute(first: int, last: int) -> Tensor:
        return _encode(encode, images[first:last], size)

    codes = in_parts(folder, len(images), compute, "encoding pictures", watch=watch).long()
    check_codes(codes, generator.canvas.positions, generator.canvas.codes, folder)
    return codes


def _digests(rows: Sequence[_Row]) -> list[bytes]:
    """SHA-256 of all chosen, then all rejected images; ImagecotError for a pair of one image."""
    chosen, rejected = [row.chosen.digest() for row in rows], [row.rejected.digest() for row in rows]
    _refuse_alike(rows, [one == other for one, other in zip(chosen, rejected, strict=True)])
    return chosen + rejected


def _refuse_alike(rows: Sequence[_Row], alike: Sequence[bool]) -> None:
    """Raise ImagecotError where some rows have one image on both sides."""
    same = [row.name for row, both in zip(rows, alike, strict=True) if both]
    if same:
        raise ImagecotError(
            f"{same[0]}: chosen and rejected are the same image, which teaches nothing"
            f"{f', as in {len(same) - 1} more' if same[1:] else ''}; {_ADVICE}."
        )


@torch.no_grad()
def _encode(
    encode: Callable[[Tensor], Tensor], images: Sequence[_Source], size: tuple[int, int], batch: int = 32
) -> Tensor:
    """Codes (B, N) int32 of images, cut and resized to height and width."""
    height, width = size
    fitted = [ImageOps.fit(image.picture(), (width, height), Image.Resampling.BICUBIC) for image in images]
    found = torch.stack([from_picture(picture) for picture in fitted])
    return torch.cat([encode(part).to("cpu", torch.int32) for part in found.split(batch)])
