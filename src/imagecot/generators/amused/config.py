"""Sizes of aMUSEd's parts as their `config.json` say them, and how its steps are scheduled."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imagecot.generators.sizes import SIZES, JsonConfig
from imagecot.reading import Foreign

Size = Annotated[int, Field(ge=1, le=100_000)]
Codes = Annotated[int, Field(ge=2, le=2**24)]
MICRO_CONDITIONS = 5  # width, height, crop from the top and from the left, aesthetic score


@dataclass(frozen=True, config=SIZES)
class UVitConfig(JsonConfig):
    """Sizes of the U-ViT; the defaults are diffusers', and all but sample_size those of the released models.

    sample_size  codes along each side of an image: 16 at 256 pixels, 32 at 512
    """

    hidden_size: Size = 1024
    use_bias: bool = False
    hidden_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    cond_embed_dim: Size = 768
    micro_cond_encode_dim: Size = 256
    micro_cond_embed_dim: Size = 1280
    encoder_hidden_size: Size = 768
    vocab_size: Codes = 8256
    codebook_size: Codes = 8192
    in_channels: Size = 768
    block_out_channels: Size = 768
    num_res_blocks: Annotated[int, Field(ge=1, le=100)] = 3
    downsample: bool = False
    upsample: bool = False
    block_num_heads: Size = 12
    num_hidden_layers: Annotated[int, Field(ge=1, le=1_000)] = 22
    num_attention_heads: Size = 16
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    intermediate_size: Size = 2816
    layer_norm_eps: Annotated[float, Field(gt=0, le=0.1)] = 1e-6
    ln_elementwise_affine: bool = True
    sample_size: Annotated[int, Field(ge=1, le=1_024)] = 64

    def _contradictions(self) -> Iterator[str]:
        if self.vocab_size <= self.codebook_size:
            yield f"vocab_size {self.vocab_size} leaves no room for the mask beside {self.codebook_size} codes"
        if self.micro_cond_embed_dim != MICRO_CONDITIONS * self.micro_cond_encode_dim:
            yield (
                f"micro_cond_embed_dim must be {MICRO_CONDITIONS} times micro_cond_encode_dim, "
                f"not {self.micro_cond_embed_dim} and {self.micro_cond_encode_dim}"
            )
        if self.downsample != self.upsample:
            yield "downsample and upsample go together"
        if self.downsample and self.sample_size % 2:
            yield f"sample_size must be even where codes are downsampled, not {self.sample_size}"
        if self.hidden_size % self.num_attention_heads or self.block_out_channels % self.block_num_heads:
            yield "num_attention_heads must divide hidden_size, and block_num_heads block_out_channels"


@dataclass(frozen=True, config=SIZES)
class VqConfig(JsonConfig):
    """Sizes of the image tokenizer, as far as they are read or bounded here; the defaults are diffusers'."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    layers_per_block: Annotated[int, Field(ge=1, le=100)] = 1
    block_out_channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=8, strict=False)] = (64,)
    latent_channels: Size = 3
    vq_embed_dim: Size | None = None
    num_vq_embeddings: Codes = 256
    norm_type: Literal["group", "spatial"] = "group"

    @property
    def pixels(self) -> int:
        """Pixels per code along each side."""
        return 1 << (len(self.block_out_channels) - 1)


class Scheduling(Foreign):
    """What `scheduler_config.json` says: the id of a masked position, and how many codes each step leaves masked."""

    mask_token_id: Annotated[int, Field(ge=0)]
    masking_schedule: Literal["cosine", "linear"] = "cosine"
