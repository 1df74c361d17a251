"""The tokenizer of a checkpoint by the library `tokenizers` alone, which transformers uses too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError
from tokenizers import AddedToken, Tokenizer

from imagecot.checkpoint import AGAIN, is_file
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.reading import Schema, read_object, read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from imagecot.chat_template import ChatTemplate

AnyTokenizer: TypeAlias = "PreTrainedTokenizerBase | PlainTokenizer"
"""What texts are read with."""

_TEMPLATE = "chat_template.jinja"
_OLDER = ("special_tokens_map.json", "added_tokens.json", "chat_template.json")  # which transformers reads too


class _Settings(Schema):
    """A tokenizer_config.json that asks for nothing beside what tokenizer.json does."""

    tokenizer_class: Literal["TokenizersBackend", "PreTrainedTokenizerFast"]
    clean_up_tokenization_spaces: Literal[False]
    bos_token: str | None = None
    eos_token: str
    pad_token: str
    boi_token: str | None = None
    eoi_token: str | None = None
    image_token: str | None = None
    extra_special_tokens: Annotated[list[str], Field(max_length=0)] | None = None
    padding_side: Literal["left", "right"] | None = None
    processor_class: str | None = None
    backend: str | None = None
    model_max_length: int | float | None = None

    @property
    def named(self) -> dict[str, str]:
        """The special tokens by the names of their fields."""
        return {name: value for name, value in self.model_dump().items() if name.endswith("_token") and value}


@dataclass(frozen=True)
class Ids:
    """A text as ids."""

    input_ids: list[int]


class PlainTokenizer:
    """A tokenizer.json, with the members of transformers' tokenizers that prompts and verifiers need.

    folder              where it was read from
    special_tokens_map  special tokens by names such as bos_token
    chat_template       the text of its template; None for none
    """

    def __init__(
        self, tokenizer: Tokenizer, folder: Path, special_tokens_map: Mapping[str, str], chat_template: str | None
    ) -> None:
        self._tokenizer, self.folder = tokenizer, folder
        self.special_tokens_map, self.chat_template = special_tokens_map, chat_template

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

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens that have names."""
        return [*dict.fromkeys(self.special_tokens_map.values())]

    def get_vocab(self) -> dict[str, int]:
        """The ids of all tokens."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token; None for one that there is not."""
        return self._tokenizer.token_to_id(token)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        return self._tokenizer.decode([*ids], skip_special_tokens=skip_special_tokens)

    def batch_decode(self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """The texts of rows of ids."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in rows]

    def apply_chat_template(
        self, conversation: Sequence[JSON], *, tokenize: Literal[False], add_generation_prompt: Literal[True]
    ) -> str:
        """The text of turns, up to where an answer begins."""
        if self._template is None:
            raise ValueError("there is no template that can be rendered here")  # as `read_plain` looks at
        return self._template.render(conversation)

    @cached_property
    def _template(self) -> "ChatTemplate | None":
        from imagecot.chat_template import read_template

        return read_template(self.chat_template or "", self.special_tokens_map)


def read_plain(folder: Path, *, chats: bool = False) -> PlainTokenizer | None:
    """The tokenizer of a folder; None where transformers does more with it, or it cannot be read.

    chats  whether its chat template is needed
    """
    if any(is_file(folder / name) for name in _OLDER):
        return None
    try:
        settings = _Settings.model_validate(read_object(folder / "tokenizer_config.json", advice=AGAIN))
        text = read_text(folder / "tokenizer.json", advice=AGAIN)
        template = read_text(folder / _TEMPLATE, advice=AGAIN) if chats else None
    except (ValidationError, ImagecotError):
        return None
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception:  # the library has no class of its own for a damaged file
        return None
    tokenizer.no_truncation()  # a tokenizer's file may ask for both
    tokenizer.no_padding()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    plain = PlainTokenizer(tokenizer, folder, settings.named, template)
    renders = template is None or plain._template is not None
    return plain if renders and {*settings.named.values()} <= special else None
