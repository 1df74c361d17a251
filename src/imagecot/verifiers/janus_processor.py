"""What a Janus' processor says of its chat and of images, read without transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError

from imagecot.checkpoint import AGAIN, is_file
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.plain_tokenizer import PlainTokenizer, read_plain
from imagecot.reading import Schema, read_object

if TYPE_CHECKING:
    from transformers import JanusProcessor

AnyProcessor: TypeAlias = "JanusProcessor | PlainProcessor"
_FILE, _OLDER = "processor_config.json", "preprocessor_config.json"

Size = Annotated[int, Field(ge=1, le=100_000)]
Color = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Side(Schema):
    height: Size
    width: Size


class Seeing(Schema):
    """How images are prepared, in the words of transformers; all that is not said here is as Janus does it."""

    image_processor_type: Literal["JanusImageProcessor", "JanusImageProcessorPil"]
    do_resize: Literal[True]
    do_pad: Literal[True]
    do_rescale: Literal[True]
    do_normalize: Literal[True]
    rescale_factor: Annotated[float, Field(ge=1 / 255, le=1 / 255)]
    resample: Literal[3]
    min_size: Size
    sides: Annotated[_Side, Field(alias="size")]
    background_color: Color
    image_mean: Color
    image_std: Color

    @property
    def size(self) -> dict[str, int]:
        """Height and width, as transformers names them."""
        return {"height": self.sides.height, "width": self.sides.width}


class _File(Schema):
    processor_class: Literal["JanusProcessor"]
    image_processor: Seeing
    num_image_tokens: Size
    use_default_system_prompt: bool


@dataclass(frozen=True)
class PlainProcessor:
    """The members of transformers' `JanusProcessor` that a verifier needs.

    folder  where it was read from
    """

    folder: Path
    tokenizer: PlainTokenizer
    image_processor: Seeing
    num_image_tokens: int
    use_default_system_prompt: bool

    @property
    def chat_template(self) -> str | None:
        """The text of the template of its chat."""
        return self.tokenizer.chat_template

    @property
    def image_token(self) -> str:
        """What stands for a row of an image."""
        return self.tokenizer.special_tokens_map["image_token"]

    @property
    def image_start_token(self) -> str:
        """What stands before an image."""
        return self.tokenizer.special_tokens_map["boi_token"]

    @property
    def image_end_token(self) -> str:
        """What stands behind an image."""
        return self.tokenizer.special_tokens_map["eoi_token"]

    def apply_chat_template(
        self, conversation: Sequence[JSON], *, tokenize: Literal[False], add_generation_prompt: Literal[True]
    ) -> str:
        """The text of turns, up to where an answer begins."""
        return self.tokenizer.apply_chat_template(
            conversation, tokenize=tokenize, add_generation_prompt=add_generation_prompt
        )


def read_processor(folder: Path) -> PlainProcessor | None:
    """The processor of a folder; None where transformers is needed to read it, or to say what is wrong with it."""
    if is_file(folder / _OLDER):
        return None
    tokenizer = read_plain(folder, chats=True)
    named = {} if tokenizer is None else tokenizer.special_tokens_map
    if tokenizer is None or not {"image_token", "boi_token", "eoi_token"} <= named.keys():
        return None
    try:
        said = _File.model_validate(read_object(folder / _FILE, advice=AGAIN))
    except (ValidationError, ImagecotError):
        return None
    return PlainProcessor(
        folder, tokenizer, said.image_processor, said.num_image_tokens, said.use_default_system_prompt
    )
