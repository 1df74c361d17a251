"""The tokenizer of a checkpoint by the library `tokenizers` alone, which transformers uses too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import ValidationError
from tokenizers import AddedToken, Tokenizer

from imagecot.checkpoint import AGAIN
from imagecot.errors import ImagecotError
from imagecot.reading import Schema, read_object, read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyTokenizer: TypeAlias = "PreTrainedTokenizerBase | PlainTokenizer"
"""What a verifier reads texts with."""


class _Settings(Schema):
    """A tokenizer_config.json that asks for nothing beside what tokenizer.json does."""

    tokenizer_class: Literal["TokenizersBackend", "PreTrainedTokenizerFast"]
    clean_up_tokenization_spaces: Literal[False]
    eos_token: str
    pad_token: str
    backend: str | None = None
    model_max_length: int | float | None = None


@dataclass(frozen=True)
class Ids:
    """A text as ids."""

    input_ids: list[int]


class PlainTokenizer:
    """A tokenizer.json, with the members of transformers' tokenizers that a verifier needs."""

    def __init__(self, tokenizer: Tokenizer, folder: Path) -> None:
        self._tokenizer, self.folder = tokenizer, folder

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Ids:
        """The ids of a text."""
        return Ids(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The tokens that stand beside the vocabulary, by their ids."""
        found: dict[int, AddedToken] = self._tokenizer.get_added_tokens_decoder()
        return dict(sorted(found.items()))

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token; None for one that there is not."""
        return self._tokenizer.token_to_id(token)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        return self._tokenizer.decode([*ids], skip_special_tokens=skip_special_tokens)

    def batch_decode(self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """The texts of rows of ids."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in rows]


def read_plain(folder: Path) -> PlainTokenizer | None:
    """The tokenizer of a folder; None where transformers does more with it, or it cannot be read."""
    try:
        settings = _Settings.model_validate(read_object(folder / "tokenizer_config.json", advice=AGAIN))
        text = read_text(folder / "tokenizer.json", advice=AGAIN)
    except (ValidationError, ImagecotError):
        return None
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception:  # the library has no class of its own for a damaged file
        return None
    tokenizer.no_truncation()  # a tokenizer's file may ask for both
    tokenizer.no_padding()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    return PlainTokenizer(tokenizer, folder) if {settings.eos_token, settings.pad_token} <= special else None
