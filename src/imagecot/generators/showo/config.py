"""Sizes of Show-o and of its image tokenizer; the defaults are the released 256-pixel models."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from imagecot.bounds import shown
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.generators.convolutions import GROUPS
from imagecot.generators.sizes import MOST_WEIGHTS, SIZES, JsonConfig, Name, PerLevel

NUM_SPECIAL_TOKENS = 10  # [PAD] and the nine task and boundary tokens between the text ids and the image codes
MOST_STEPS = 10_000
MOST = 1_000.0  # of guidance and temperature


@dataclass(frozen=True, config=SIZES)
class MagvitV2Config(JsonConfig):
    """Sizes of MAGVIT-v2 with lookup-free quantization.

    The tuples have one entry a resolution level, level 0 the finest. `patch_size` 1 is the published model; a
    larger one folds patches of pixels into channels before the first convolution and unfolds them after the
    last, so that every convolution runs on a coarser grid.
    """

    channels: Annotated[int, Field(ge=32, le=4_096)] = 128
    encoder_mult: PerLevel = (1, 2, 2, 4, 4)
    decoder_mult: PerLevel = (1, 1, 2, 2, 4)
    encoder_blocks: PerLevel = (4, 3, 4, 3, 4)
    decoder_blocks: PerLevel = (4, 4, 3, 4, 3)
    code_bits: Annotated[int, Field(ge=1, le=24)] = 13
    in_channels: Annotated[int, Field(ge=3, le=3)] = 3
    out_channels: Annotated[int, Field(ge=3, le=3)] = 3
    image_size: Annotated[int, Field(ge=1, le=8_192)] = 256
    patch_size: Annotated[int, Field(ge=1, le=64)] = 1

    def _contradictions(self) -> Iterator[str]:
        levels = {len(self.encoder_mult), len(self.decoder_mult), len(self.encoder_blocks), len(self.decoder_blocks)}
        if len(levels) > 1:
            yield "encoder_mult, decoder_mult, encoder_blocks and decoder_blocks must be of one length"
        if self.channels % GROUPS:
            yield f"channels must be divisible by {GROUPS}, not {self.channels}"
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


@dataclass(frozen=True, config=SIZES)
class ShowoConfig(JsonConfig):
    """Sizes of Show-o: a Phi backbone over text ids, special tokens, image codes and one mask token.

    `max_text_len` is the reference's `max_seq_length`: the text block holds one id more, the task token.
    `vq_model` names the image tokenizer: a hub id, a shipped name, or a folder relative to the checkpoint;
    `llm_model_path` names the text tokenizer of a checkpoint that does not hold one.
    """

    codebook_size: Annotated[int, Field(ge=2, le=16_777_216)] = 8192
    num_vq_tokens: Annotated[int, Field(ge=1, le=65_536)] = 256
    llm_vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] = 50295
    max_text_len: Annotated[int, Field(ge=3, le=100_000)] = 128
    w_clip_vit: bool = False
    hidden_size: Annotated[int, Field(ge=2, le=65_536)] = 2048
    num_hidden_layers: Annotated[int, Field(ge=1, le=1_000)] = 24
    num_attention_heads: Annotated[int, Field(ge=1, le=1_024)] = 32
    intermediate_size: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    max_position_embeddings: Annotated[int, Field(ge=1, le=10_000_000)] = 2048
    partial_rotary_factor: Annotated[float, Field(ge=0, le=1)] = 0.5
    rope_theta: Annotated[float, Field(ge=1, le=1_000_000_000)] = 10000.0
    layer_norm_eps: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-5
    clip_hidden_size: Annotated[int, Field(ge=1, le=65_536)] = 1024
    vq_model: Name = "showlab/magvitv2"
    llm_model_path: Name = "microsoft/phi-1_5"

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
        if self.num_hidden_layers * layer + 2 * self.vocab_size * self.hidden_size > MOST_WEIGHTS:
            yield f"the sizes together make more than {MOST_WEIGHTS:,} weights"

    @classmethod
    def from_dict(cls, values: Mapping[str, JSON]) -> Self:
        """As of other configurations; the ids that follow from the sizes must be what the file says they are."""
        config = super().from_dict(values)
        for name, made in config._derived.items():
            if name in values and values[name] != made:
                raise ImagecotError(
                    f"{cls.__name__} cannot be: {name} is {shown(values[name])}, but the sizes make it {made}."
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

    def to_dict(self) -> dict[str, JSON]:
        """Return what `config.json` holds, with the two derived ids that the released file also has."""
        return {**super().to_dict(), **self._derived}

    @property
    def _derived(self) -> dict[str, int]:
        return {"vocab_size": self.vocab_size, "mask_token_id": self.mask_token_id}
