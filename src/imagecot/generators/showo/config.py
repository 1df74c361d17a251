"""Sizes of Show-o and of its image tokenizer; the defaults are the released 256-pixel models."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from imagecot.weights import read_config

NUM_SPECIAL_TOKENS = 10  # [PAD] and the nine task and boundary tokens between the text ids and the image codes


class _JsonConfig:
    """Reading and writing `config.json`; fields that the file does not mention keep the released values."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Take the known fields of `values` and ignore the rest (`_class_name`, `llm_model_path`, ...)."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        kept = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(**kept)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read `folder/config.json`; ImagecotError where it is missing or is not JSON."""
        return cls.from_dict(read_config(Path(folder)))

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        return json.loads(json.dumps({"_class_name": type(self).__name__[: -len("Config")], **asdict(self)}))  # type: ignore[call-overload]


@dataclass(frozen=True)
class MagvitV2Config(_JsonConfig):
    """Sizes of MAGVIT-v2 with lookup-free quantization.

    The tuples have one entry a resolution level, level 0 the finest. `patch_size` 1 is the published model; a
    larger one folds patches of pixels into channels before the first convolution and unfolds them after the
    last, so that every convolution runs on a coarser grid.
    """

    channels: int = 128
    encoder_mult: tuple[int, ...] = (1, 2, 2, 4, 4)
    decoder_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    encoder_blocks: tuple[int, ...] = (4, 3, 4, 3, 4)
    decoder_blocks: tuple[int, ...] = (4, 4, 3, 4, 3)
    code_bits: int = 13
    in_channels: int = 3
    out_channels: int = 3
    image_size: int = 256
    patch_size: int = 1

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

    codebook_size: int = 8192
    num_vq_tokens: int = 256
    llm_vocab_size: int = 50295
    max_text_len: int = 128
    w_clip_vit: bool = False
    hidden_size: int = 2048
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    intermediate_size: int = 8192
    max_position_embeddings: int = 2048
    partial_rotary_factor: float = 0.5
    rope_theta: float = 10000.0
    layer_norm_eps: float = 1e-5
    clip_hidden_size: int = 1024
    vq_model: str = "showlab/magvitv2"
    llm_model_path: str = "microsoft/phi-1_5"

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
