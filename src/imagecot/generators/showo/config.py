"""Sizes of Show-o and of its image tokenizer; the defaults are the released 256-pixel models."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from imagecot.checkpoint import AGAIN, CONFIG, read_config
from imagecot.errors import ImagecotError

NUM_SPECIAL_TOKENS = 10  # [PAD] and the nine task and boundary tokens between the text ids and the image codes
_GROUPS = 32  # of channels that are normalised together
MOST_STEPS = 10_000
MOST = 1_000.0  # of guidance and temperature
_MOST_LEVELS = 8
_MOST_WEIGHTS = 10**11
_LONGEST_NAME = 4096


def _within(default: Any, low: float, high: float) -> Any:
    """A field that is a number, or a tuple of numbers, from `low` to `high`."""
    return field(default=default, metadata={"bounds": (low, high)})


class _JsonConfig:
    """Reading and writing `config.json`; fields that the file does not mention keep the released values."""

    def __post_init__(self) -> None:
        for entry in fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            if entry.type is float and type(value) is int:
                object.__setattr__(self, entry.name, value + 0.0 if abs(value) < _MOST_WEIGHTS else math.inf)
        found = list(_wrong_fields(self)) or list(self._contradictions())
        if found:
            raise ImagecotError(f"{type(self).__name__} cannot be: {'; '.join(found[:3])}.")

    def _contradictions(self) -> Iterator[str]:
        """What of fields that are right by themselves does not go together."""
        yield from ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Take the known fields of `values` and ignore the rest (`_class_name`, `llm_model_path`, ...).

        ImagecotError for values that no model can have.
        """
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        kept = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(**kept)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read `folder/config.json`; ImagecotError where it is missing, is not JSON or describes no model."""
        values = read_config(Path(folder))
        try:
            return cls.from_dict(values)
        except ImagecotError as error:
            told = str(error).partition(": ")[2].rstrip(".")
            raise ImagecotError(f"{Path(folder) / CONFIG} describes no model: {told}; {AGAIN}.") from None

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        return json.loads(json.dumps({"_class_name": type(self).__name__[: -len("Config")], **asdict(self)}))  # type: ignore[call-overload]


def _wrong_fields(config: Any) -> Iterator[str]:
    """What is wrong with each field by itself."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        low, high = entry.metadata.get("bounds", (0, 0))
        span = f"from {low:,} to {high:,}"
        if entry.type is int and not (type(value) is int and low <= value <= high):
            yield f"{entry.name} must be a whole number {span}, not {_shown(value)}"
        elif entry.type is float and not (type(value) in (int, float) and low <= value <= high):
            yield f"{entry.name} must be a number {span}, not {_shown(value)}"
        elif entry.type is bool and not isinstance(value, bool):
            yield f"{entry.name} must be true or false, not {_shown(value)}"
        elif entry.type is str and not (isinstance(value, str) and value.isprintable() and len(value) < _LONGEST_NAME):
            yield f"{entry.name} must be a name, not {_shown(value)}"
        elif entry.type == tuple[int, ...] and not (
            isinstance(value, tuple)
            and 1 <= len(value) <= _MOST_LEVELS
            and all(type(number) is int and low <= number <= high for number in value)
        ):
            yield f"{entry.name} must be 1 to {_MOST_LEVELS} whole numbers {span}, not {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:59] + "…"


@dataclass(frozen=True)
class MagvitV2Config(_JsonConfig):
    """Sizes of MAGVIT-v2 with lookup-free quantization.

    The tuples have one entry a resolution level, level 0 the finest. `patch_size` 1 is the published model; a
    larger one folds patches of pixels into channels before the first convolution and unfolds them after the
    last, so that every convolution runs on a coarser grid.
    """

    channels: int = _within(128, 32, 4_096)
    encoder_mult: tuple[int, ...] = _within((1, 2, 2, 4, 4), 1, 64)
    decoder_mult: tuple[int, ...] = _within((1, 1, 2, 2, 4), 1, 64)
    encoder_blocks: tuple[int, ...] = _within((4, 3, 4, 3, 4), 1, 64)
    decoder_blocks: tuple[int, ...] = _within((4, 4, 3, 4, 3), 1, 64)
    code_bits: int = _within(13, 1, 24)
    in_channels: int = _within(3, 3, 3)
    out_channels: int = _within(3, 3, 3)
    image_size: int = _within(256, 1, 8_192)
    patch_size: int = _within(1, 1, 64)

    def _contradictions(self) -> Iterator[str]:
        levels = {len(self.encoder_mult), len(self.decoder_mult), len(self.encoder_blocks), len(self.decoder_blocks)}
        if len(levels) > 1:
            yield "encoder_mult, decoder_mult, encoder_blocks and decoder_blocks must be of one length"
        if self.channels % _GROUPS:
            yield f"channels must be divisible by {_GROUPS}, not {self.channels}"
        if self.image_size % self.downsample_factor:
            yield f"image_size {self.image_size} must be divisible by the {self.downsample_factor} pixels of a code"

    @property
    def codebook_size(self) -> int:
        """Number of codes, 2^code_bits."""
        return 2**self.code_bits

    @property
    def downsample_factor(self) -> int:
        """Pixels per code along each side."""
        return self.patch_size * 2 ** (len(self.encoder_mult) - 1)

    @property
    def num_codes(self) -> int:
        """Codes of a square image of `image_size` pixels."""
        return (self.image_size // self.downsample_factor) ** 2


@dataclass(frozen=True)
class ShowoConfig(_JsonConfig):
    """Sizes of Show-o: a Phi backbone over text ids, special tokens, image codes and one mask token.

    `max_text_len` is the reference's `max_seq_length`: the text block holds one id more, the task token.
    `vq_model` names the image tokenizer: a hub id, a shipped name, or a folder relative to the checkpoint;
    `llm_model_path` names the text tokenizer of a checkpoint that does not hold one.
    """

    codebook_size: int = _within(8192, 2, 16_777_216)
    num_vq_tokens: int = _within(256, 1, 65_536)
    llm_vocab_size: int = _within(50295, 1, 10_000_000)
    max_text_len: int = _within(128, 3, 100_000)
    w_clip_vit: bool = False
    hidden_size: int = _within(2048, 2, 65_536)
    num_hidden_layers: int = _within(24, 1, 1_000)
    num_attention_heads: int = _within(32, 1, 1_024)
    intermediate_size: int = _within(8192, 1, 1_000_000)
    max_position_embeddings: int = _within(2048, 1, 10_000_000)
    partial_rotary_factor: float = _within(0.5, 0, 1)
    rope_theta: float = _within(10000.0, 1, 1_000_000_000)
    layer_norm_eps: float = _within(1e-5, 1e-12, 0.1)
    clip_hidden_size: int = _within(1024, 1, 65_536)
    vq_model: str = "showlab/magvitv2"
    llm_model_path: str = "microsoft/phi-1_5"

    def _contradictions(self) -> Iterator[str]:
        per_head, rest = divmod(self.hidden_size, self.num_attention_heads)
        turned = int(per_head * self.partial_rotary_factor)
        if rest:
            yield f"hidden_size {self.hidden_size} must be divisible by num_attention_heads {self.num_attention_heads}"
        elif turned < 2 or turned % 2:
            yield f"partial_rotary_factor must turn an even number of the {per_head} channels of a head, not {turned}"
        if self.grid_size**2 != self.num_vq_tokens:
            yield f"num_vq_tokens must be a square, not {self.num_vq_tokens}"
        room = self.max_text_len + self.num_vq_tokens + 3
        if room > self.max_position_embeddings:
            yield f"max_position_embeddings is below the {room} tokens of text and image"
        layer = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        if self.num_hidden_layers * layer + 2 * self.vocab_size * self.hidden_size > _MOST_WEIGHTS:
            yield f"the sizes together make more than {_MOST_WEIGHTS:,} weights"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """As of other configurations; the ids that follow from the sizes must be what the file says they are."""
        config = super().from_dict(values)
        for name in ("vocab_size", "mask_token_id"):
            if name in values and values[name] != getattr(config, name):
                raise ImagecotError(
                    f"{cls.__name__} cannot be: {name} is {_shown(values[name])}, but the sizes make it "
                    f"{getattr(config, name)}."
                )
        return config

    @property
    def code_offset(self) -> int:
        """Id of image code 0."""
        return self.llm_vocab_size + NUM_SPECIAL_TOKENS

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding and of the head: text, special tokens, codes, mask."""
        return self.code_offset + self.codebook_size + 1

    @property
    def mask_token_id(self) -> int:
        """Id of a masked image token, the last of the vocabulary."""
        return self.vocab_size - 1

    @property
    def grid_size(self) -> int:
        """Image tokens along each side of the square grid."""
        return round(self.num_vq_tokens**0.5)

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds, with the two derived ids that the released file also has."""
        return {**super().to_dict(), "vocab_size": self.vocab_size, "mask_token_id": self.mask_token_id}
