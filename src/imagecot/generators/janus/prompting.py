"""Prompts of Janus: a chat in which the user asks for an image, as `JanusProcessor` writes it; the answer is one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from imagecot.checkpoint import AGAIN, SETTINGS, is_file
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import make_folder
from imagecot.foreign import foreign, load_tokenizer
from imagecot.generators.janus.config import JanusParts
from imagecot.generators.janus.lean import LeanConfig
from imagecot.plain_tokenizer import AnyTokenizer, PlainTokenizer, read_plain
from imagecot.prompts import check_prompt
from imagecot.reading import read_object

if TYPE_CHECKING:
    from transformers import JanusConfig

TEMPLATE = "chat_template.json"  # where older processors keep the template


@dataclass(frozen=True, eq=False)
class JanusPrompting:
    """The tokenizer of a Janus, and the ids that drawing needs.

    tokenizer  with the chat template, and `boi_token`, which begins an image
    bos_id     begins a text; the unconditional prompt keeps it
    boi_id     begins an image; the unconditional prompt keeps it
    pad_id     stands in the unconditional prompt for everything else
    max_ids    ids of a prompt, bos and boi included, beside which the codes of an image have room
    """

    tokenizer: AnyTokenizer
    bos_id: int
    boi_id: int
    pad_id: int
    max_ids: int

    @classmethod
    def of(
        cls, tokenizer: AnyTokenizer, config: "JanusConfig | LeanConfig", said: Mapping[str, JSON] | None = None
    ) -> Self:
        """Prompts of a model by its tokenizer.

        said  what its generation_config.json says of bos_token_id, pad_token_id and boi_token_id, which is what
              transformers goes by; by default the tokenizer's own

        ImagecotError where the tokenizer lacks a token or the chat template, or has ids that the model has not.
        """
        said, parts = said or {}, JanusParts.of(config)
        special = tokenizer.special_tokens_map
        found: dict[str, int] = {}
        for name in ("bos", "boi", "pad"):
            token = special.get(f"{name}_token")
            asked = said.get(f"{name}_token_id")
            if not isinstance(token, str):
                raise ImagecotError(
                    f"the tokenizer has no {name}_token, without which Janus draws no image; pass the tokenizer of a "
                    "checkpoint that draws."
                )
            own = tokenizer.convert_tokens_to_ids(token)
            assert isinstance(own, int)  # as of one token
            # The released ones differ in what blanks the unconditional prompt, and a tokenizer may say another.
            chosen = asked if isinstance(asked, int) and name == "pad" else own
            if isinstance(asked, int) and asked != own and name != "pad":
                raise ImagecotError(
                    f"{name}_token_id is {asked} in {SETTINGS} but {own} in the tokenizer; see that both are of one "
                    "checkpoint."
                )
            found[name] = chosen
        entries, known = max(*tokenizer.get_vocab().values(), *found.values()) + 1, parts.text.vocab_size
        if entries > known:
            raise ImagecotError(
                f"the tokenizer has {entries} entries but the model knows {known} text ids; pass the tokenizer that "
                "the model was trained with."
            )
        if not tokenizer.chat_template:
            raise ImagecotError("the tokenizer has no chat template; copy chat_template.jinja too.")
        room = parts.text.max_position_embeddings - parts.positions
        prompting = cls(tokenizer, found["bos"], found["boi"], found["pad"], room)
        with foreign("the chat template makes no prompt"):
            ids = prompting.ids("a cat")
        if ids[:1] != [prompting.bos_id] or ids[-1:] != [prompting.boi_id]:
            raise ImagecotError(
                "the tokenizer does not begin a text with its bos_token and end it with its boi_token; pass the "
                "tokenizer of a checkpoint that draws."
            )
        return prompting

    @classmethod
    def from_pretrained(cls, folder: Path, config: "JanusConfig | LeanConfig") -> Self:
        """Read the tokenizer of a folder, its chat template, and the ids in its generation_config.json."""
        if not is_file(folder / "tokenizer.json"):
            raise ImagecotError(f"{folder} has no tokenizer.json; copy the tokenizer's files beside the weights.")
        tokenizer = read_plain(folder, chats=True) or load_tokenizer(folder)
        if not tokenizer.chat_template and is_file(folder / TEMPLATE):
            template = read_object(folder / TEMPLATE, advice=AGAIN).get("chat_template")
            tokenizer.chat_template = template if isinstance(template, str) else None
        said = read_object(folder / SETTINGS, advice=AGAIN) if is_file(folder / SETTINGS) else {}
        further = said.get("generation_kwargs")
        try:
            return cls.of(tokenizer, config, {**said, **(further if isinstance(further, dict) else {})})
        except ImagecotError as error:
            raise ImagecotError(f"{folder}: {error}") from error

    def save_pretrained(self, folder: Path) -> None:
        """Write the files of the tokenizer and its chat template into `folder`."""
        read = self.tokenizer
        whole = load_tokenizer(read.folder) if isinstance(read, PlainTokenizer) else read
        whole.save_pretrained(make_folder(folder))

    def text(self, prompt: str) -> str:
        """The prompt in the chat: what the user says, and the beginning of an image as the answer."""
        message: Any = {"role": "user", "content": [{"type": "text", "text": prompt}]}  # typed for plain texts only
        chat = self.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        return f"{chat}{self.tokenizer.special_tokens_map['boi_token']}"

    def ids(self, prompt: str) -> list[int]:
        """The ids of `text`, from bos to boi."""
        ids: list[int] = self.tokenizer(self.text(prompt)).input_ids
        return ids

    def against(self, ids: list[int]) -> list[int]:
        """The ids of what guidance goes against: as many, all but bos and boi blanked by pad."""
        return [one if one in (self.bos_id, self.boi_id) else self.pad_id for one in ids]

    def check(self, prompt: str) -> None:
        """Raise UsageError for a prompt that is empty, too long, or spells a special token."""
        check_prompt(prompt)
        for token in self.tokenizer.all_special_tokens:
            if token in prompt:
                raise UsageError(f"the prompt contains {token}, which Janus reads as a mark of its own; leave it out.")
        count = len(self.ids(prompt))
        if count > self.max_ids:
            raise UsageError(
                f"the prompt has {count} tokens but this generator reads at most {self.max_ids}; shorten it."
            )
