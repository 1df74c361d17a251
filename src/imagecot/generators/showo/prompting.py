"""Prompts as Show-o ids: the special ids, and the layouts of drawing, describing and plain text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from tokenizers import Tokenizer
from torch import Tensor

from imagecot.checkpoint import AGAIN
from imagecot.contracts.correction import Asked
from imagecot.errors import ImagecotError
from imagecot.files import make_folder, write_atomically, write_text
from imagecot.foreign import foreign
from imagecot.generators.showo.config import ShowoConfig
from imagecot.reading import Foreign, read_record, read_text

IGNORED = -100  # label of a position that no loss looks at


class _Token(Foreign):
    content: str


class _Ends(Foreign):
    """The names of the tokens before and behind a text, in `tokenizer_config.json`."""

    bos_token: str | _Token
    eos_token: str | _Token


class Prompting:
    """A text tokenizer together with the ids that Show-o puts behind the text vocabulary.

    In order from `llm_vocab_size`: pad, soi, eoi, sov, eov, t2i, mmu, t2v, v2v, lvg, then the image codes,
    then the mask. They are computed and not added to the tokenizer, so a prompt that spells `<|soi|>` stays
    text.
    """

    def __init__(self, tokenizer: Tokenizer, config: ShowoConfig, bos_id: int, eos_id: int) -> None:
        entries = max(tokenizer.get_vocab().values(), default=-1) + 1
        if entries > config.llm_vocab_size:
            raise ImagecotError(
                f"the tokenizer has {entries} entries but the model knows {config.llm_vocab_size} text ids; pass the "
                "tokenizer that the model was trained with."
            )
        tokenizer.no_truncation()  # a tokenizer's file may ask for both
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.config = config
        self.bos_id, self.eos_id = bos_id, eos_id
        first = config.llm_vocab_size
        self.pad_id, self.soi_id, self.eoi_id, self.t2i_id, self.mmu_id = (
            first,
            first + 1,
            first + 2,
            first + 5,
            first + 6,
        )
        self.mask_id = config.mask_token_id

    @classmethod
    def from_pretrained(cls, folder: str | Path, config: ShowoConfig) -> Self:
        """Read `tokenizer.json`, and bos and eos of `tokenizer_config.json`; ImagecotError otherwise."""
        folder = Path(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not (folder / name).is_file():
                raise ImagecotError(f"{folder} has no {name}; copy the tokenizer's files beside the weights.")
        text = read_text(folder / "tokenizer.json", advice=AGAIN)
        names = read_record(folder / "tokenizer_config.json", _Ends, advice=AGAIN)
        with foreign(f"the tokenizer in {folder} cannot be read"):
            tokenizer = Tokenizer.from_str(text)
            tokenizer.encode("a photo of a cat")
        bos, eos = (tokenizer.token_to_id(_content(token)) for token in (names.bos_token, names.eos_token))
        if bos is None or eos is None:
            raise ImagecotError(
                f"the tokenizer in {folder} does not contain its own bos and eos tokens; copy it again."
            )
        return cls(tokenizer, config, bos, eos)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into `folder`."""
        folder = make_folder(Path(folder))
        write_atomically(folder / "tokenizer.json", lambda part: self.tokenizer.save(str(part)))
        names = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.tokenizer.id_to_token(self.bos_id),
            "eos_token": self.tokenizer.id_to_token(self.eos_id),
        }
        write_text(folder / "tokenizer_config.json", json.dumps(names, indent=2) + "\n")

    @property
    def max_text_ids(self) -> int:
        """Most text ids of a drawing prompt that is not cut: the block less the task, bos and eos ids."""
        return self.config.max_text_len + 1 - 3

    def text_ids(self, text: str) -> list[int]:
        """Return the ids of `text` after bos, which is not repeated where the text itself begins with it."""
        ids = self.tokenizer.encode(text).ids
        return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    def text_length(self, prompt: str) -> int:
        """Return how many text ids the prompt has, without bos and eos; compare with `max_text_ids`."""
        return len(self.text_ids(prompt)) - 1

    def is_truncated(self, prompt: str) -> bool:
        """Whether the prompt is too long, so that its end does not reach the model."""
        return self.text_length(prompt) > self.max_text_ids

    def text_prefix(self, prompt: str) -> list[int]:
        """Return `t2i, bos, text, eos` without padding, cut to the text block with eos kept at its end."""
        return self.close([self.t2i_id, *self.text_ids(prompt)], self.config.max_text_len + 1)

    def prefix(self, asked: Asked) -> list[int]:
        """Return what comes before an image: `text_prefix`, or `prompt and reasons, soi, rejected image, eoi`."""
        if isinstance(asked, str):
            return self.text_prefix(asked)
        prompt, correction = asked
        text = self.text_prefix(" ".join(filter(None, (prompt, correction.reasons))))
        if correction.codes is None:
            return text
        return text + self.image_block(self.image_ids(correction.codes.long()[None]))[0].tolist()

    def with_images(self, asked: Sequence[Asked], codes: Tensor) -> Tensor:
        """Return ids (B, L): padding, prefix, soi, codes (B, N), negative where masked, eoi."""
        rows = [self.prefix(one) for one in asked]
        width = max(map(len, rows))
        before = torch.tensor([[self.pad_id] * (width - len(row)) + row for row in rows], device=codes.device)
        return torch.cat([before, self.image_block(self.image_ids(codes))], dim=1)

    def close(self, ids: Sequence[int], length: int) -> list[int]:
        """Append eos to `ids`, after cutting them so that the whole has at most `length` ids."""
        return [*ids[: length - 1], self.eos_id]

    def to_image(self, prompts: list[str], image_ids: Tensor) -> Tensor:
        """Return drawing inputs (B, max_text_len + N + 3): padding, text, soi, image_ids (B, N), eoi."""
        width = self.config.max_text_len + 1
        rows = [self.text_prefix(prompt) for prompt in prompts]
        text = torch.tensor([[self.pad_id] * (width - len(row)) + row for row in rows], device=image_ids.device)
        return torch.cat([text, self.image_block(image_ids)], dim=1)

    def to_image_training(
        self, prompts: list[str], image_ids: Tensor, labels: Tensor, dropped: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return drawing inputs and their labels, both (B, L), from image_ids and labels (B, N).

        `dropped` (B,) bool replaces prompts by the empty one, for guidance. As in the reference the labels of
        text, soi and eoi are their own ids; only padding and what `labels` ignores are IGNORED.
        """
        if dropped is not None:
            prompts = ["" if drop else prompt for prompt, drop in zip(prompts, dropped.tolist(), strict=True)]
        inputs = self.to_image(prompts, image_ids)
        text = inputs[:, : self.config.max_text_len + 1]
        text = torch.where(text == self.pad_id, IGNORED, text)
        return inputs, torch.cat([text, self.image_block(labels)], dim=1)

    def to_text_training(self, texts: list[str], image_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return describing inputs `mmu, soi, image_ids (B, N), eoi, bos, text, eos, padding`, and labels.

        Everything before bos and the padding are IGNORED.
        """
        text, labels = self._padded(
            [self.close(self.text_ids(text), self.config.max_text_len) for text in texts],
            self.config.max_text_len,
        )
        image = self._image_to_read(image_ids)
        inputs = torch.cat([image, text.to(image)], dim=1)
        return inputs, torch.cat([torch.full_like(image, IGNORED), labels.to(image)], dim=1)

    def to_text(self, text: str, image_ids: Tensor) -> Tensor:
        """Return describing inputs `mmu, soi, image_ids (B, N), eoi, bos, text`; the answer follows them."""
        image = self._image_to_read(image_ids)
        return torch.cat([image, torch.tensor([self.text_ids(text)]).to(image).expand(len(image), -1)], dim=1)

    def plain_training(self, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
        """Return inputs `bos, text, eos, padding` of `length` ids and their labels; longer texts are cut."""
        return self._padded([[*self.text_ids(text), self.eos_id][:length] for text in texts], length)

    def image_block(self, image_ids: Tensor) -> Tensor:
        """Put soi before and eoi behind image_ids (B, N)."""
        soi, eoi = (torch.full_like(image_ids[:, :1], value) for value in (self.soi_id, self.eoi_id))
        return torch.cat([soi, image_ids, eoi], dim=1)

    def image_ids(self, codes: Tensor) -> Tensor:
        """Map image codes (B, N), negative where masked, to ids."""
        return torch.where(codes < 0, self.mask_id, codes + self.config.code_offset)

    def _image_to_read(self, image_ids: Tensor) -> Tensor:
        return torch.cat([torch.full_like(image_ids[:, :1], self.mmu_id), self.image_block(image_ids)], dim=1)

    def _padded(self, rows: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        fill = [length - len(row) for row in rows]
        inputs = [row + [self.pad_id] * n for row, n in zip(rows, fill, strict=True)]
        labels = [row + [IGNORED] * n for row, n in zip(rows, fill, strict=True)]
        return torch.tensor(inputs), torch.tensor(labels)


def _content(token: "str | _Token") -> str:
    return token if isinstance(token, str) else token.content
