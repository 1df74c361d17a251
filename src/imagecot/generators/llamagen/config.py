"""Sizes of LlamaGen (text-to-image) and of VQ-16; the defaults are the released models of 256 pixels."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from imagecot.contracts.values import JSON
from imagecot.generators.convolutions import GROUPS
from imagecot.generators.sizes import MOST_WEIGHTS, SIZES, JsonConfig, Name, PerLevel

MODEL_TYPE = "llamagen"
CLASSES = "it is a class-conditional LlamaGen, which reads no text; give a text-to-image one (t2i)"
USAGE = 65_536  # codes that VQ-16 remembers in training, for a statistic


def _kind(value: JSON) -> JSON:
    """The reference's name for a text-to-image model is ours too."""
    if value == "c2i":
        raise ValueError(CLASSES)
    return MODEL_TYPE if value == "t2i" else value


@dataclass(frozen=True, config=SIZES)
class LlamaGenConfig(JsonConfig):
    """Sizes of LlamaGen: a Llama over text features and the image codes of a square grid, in raster order.

    The names are those of the reference's `ModelArgs`, of which what is used in training only is left out.

    dim, n_layer, n_head  width, layers, heads
    n_kv_head             heads of keys and values; None for as many as n_head
    multiple_of           the feed-forward width is the next multiple of it above 8/3 dim
    ffn_dim_multiplier    a factor on 8/3 dim before that; None for 1
    rope_base             of the rotary embedding over rows and columns
    caption_dim           width of the text features
    cls_token_num         rows of text
    block_size            codes of an image, a square
    vq_model              the image tokenizer: a folder in or beside the checkpoint, or a hub id
    text_encoder          the T5 that gives the features: a folder in or beside the checkpoint, or a hub id
    """

    dim: Annotated[int, Field(ge=4, le=65_536)] = 1280
    n_layer: Annotated[int, Field(ge=1, le=1_000)] = 36
    n_head: Annotated[int, Field(ge=1, le=1_024)] = 20
    n_kv_head: Annotated[int, Field(ge=1, le=1_024)] | None = None
    multiple_of: Annotated[int, Field(ge=1, le=65_536)] = 256
    ffn_dim_multiplier: Annotated[float, Field(gt=0, le=64)] | None = None
    rope_base: Annotated[float, Field(ge=1, le=1_000_000_000)] = 10000
    norm_eps: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-5
    caption_dim: Annotated[int, Field(ge=1, le=65_536)] = 2048
    vocab_size: Annotated[int, Field(ge=2, le=16_777_216)] = 16384
    cls_token_num: Annotated[int, Field(ge=1, le=100_000)] = 120
    block_size: Annotated[int, Field(ge=1, le=65_536)] = 256
    vq_model: Name = "vq_model"
    text_encoder: Name = "google/flan-t5-xl"
    model_type: Annotated[Literal["llamagen"], BeforeValidator(_kind)] = "llamagen"

    def _contradictions(self) -> Iterator[str]:
        per_head, rest = divmod(self.dim, self.n_head)
        if rest:
            yield f"dim {self.dim} must be divisible by n_head {self.n_head}"
        elif per_head % 4:
            yield f"a head must have a multiple of 4 channels, not {per_head} (dim / n_head)"
        if self.n_head % self.kv_heads:
            yield f"n_head {self.n_head} must be divisible by n_kv_head {self.kv_heads}"
        if self.grid_size**2 != self.block_size:
            yield f"block_size must be a square, not {self.block_size}"
        layer = self.dim * (2 * self.dim + 2 * self.kv_heads * per_head + 3 * self.hidden_size)
        if self.n_layer * layer + 2 * self.vocab_size * self.dim > MOST_WEIGHTS:
            yield f"the sizes together make more than {MOST_WEIGHTS:,} weights"

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.dim // self.n_head

    @property
    def hidden_size(self) -> int:
        """Width inside the feed-forward layers."""
        width = int(8 * self.dim / 3)
        if self.ffn_dim_multiplier is not None:
            width = int(self.ffn_dim_multiplier * width)
        return -(-width // self.multiple_of) * self.multiple_of

    @property
    def grid_size(self) -> int:
        """Codes along each side of the image."""
        return round(self.block_size**0.5)


@dataclass(frozen=True, config=SIZES)
class VQ16Config(JsonConfig):
    """Sizes of the convolutional image tokenizer VQ-16, and of others of its kind.

    The names are those of the reference's `ModelArgs` and of the arguments of its encoder and decoder. The tuples have
    one entry a resolution level, level 0 the finest.

    codebook_l2_norm     whether vectors and codes are compared and decoded on the unit sphere
    codebook_show_usage  whether the weights hold the statistic of training
    """

    codebook_size: Annotated[int, Field(ge=2, le=16_777_216)] = 16384
    codebook_embed_dim: Annotated[int, Field(ge=1, le=65_536)] = 8
    codebook_l2_norm: bool = True
    codebook_show_usage: bool = True
    encoder_ch_mult: PerLevel = (1, 1, 2, 2, 4)
    decoder_ch_mult: PerLevel = (1, 1, 2, 2, 4)
    z_channels: Annotated[int, Field(ge=1, le=65_536)] = 256
    ch: Annotated[int, Field(ge=32, le=4_096)] = 128
    num_res_blocks: Annotated[int, Field(ge=1, le=64)] = 2

    def _contradictions(self) -> Iterator[str]:
        if len(self.encoder_ch_mult) != len(self.decoder_ch_mult):
            yield "encoder_ch_mult and decoder_ch_mult must be of one length"
        if self.ch % GROUPS:
            yield f"ch must be divisible by {GROUPS}, not {self.ch}"

    @property
    def downsample_factor(self) -> int:
        """Pixels per code along each side."""
        return 2 ** (len(self.encoder_ch_mult) - 1)
