"""LLaVA-OneVision to be asked: SigLIP, a projector and Qwen2, number by number as transformers computes them.

The class of transformers takes seconds to import, and is what fine-tuning trains. `read` makes this one of checkpoints
that are built as the shipped ones are; of any other, and of what does not fit, it says nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.values import JSON
from imagecot.generators.eye import Eye, EyeSizes
from imagecot.generators.language import Language, LanguageSizes
from imagecot.generators.lean import filled
from imagecot.reading import Foreign

Size = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Eps = Annotated[float, Field(gt=0, le=0.1)]
# What begins the names of tensors in a file, and in a model.
_PREFIXES = {"language_model.model.": "model.language_model.", "language_model.lm_head.": "lm_head."}
_PARTS = ("vision_tower.", "multi_modal_projector.", "image_newline")


class _Rope(Foreign):
    rope_type: Literal["default"]
    rope_theta: Annotated[float, Field(ge=1, le=1e12)]


class TextConfig(Foreign):
    """What of a Qwen2's sizes is used here."""

    model_type: Literal["qwen2"]
    hidden_act: Literal["silu"]
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    vocab_size: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
    max_position_embeddings: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
    rms_norm_eps: Eps
    rope_parameters: _Rope
    use_sliding_window: Literal[False]
    head_dim: None = None
    pad_token_id: int | None = None

    @property
    def sizes(self) -> LanguageSizes:
        """What the layers are built by."""
        return LanguageSizes(
            width=self.hidden_size,
            inner=self.intermediate_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            head_dim=self.hidden_size // self.num_attention_heads,
            words=self.vocab_size,
            eps=self.rms_norm_eps,
            theta=self.rope_parameters.rope_theta,
            biased=True,
        )


class VisionConfig(Foreign):
    """What of a SigLIP's sizes is used here."""

    model_type: Literal["siglip_vision_model"]
    hidden_act: Literal["gelu_pytorch_tanh"]
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_channels: Literal[3]
    image_size: Size
    patch_size: Size
    layer_norm_eps: Eps
    vision_use_head: Literal[False]

    @property
    def sizes(self) -> EyeSizes:
        """What the layers are built by."""
        return EyeSizes(
            width=self.hidden_size,
            inner=self.intermediate_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            image=self.image_size,
            patch=self.patch_size,
            eps=self.layer_norm_eps,
            gelu="tanh",
            out="out_proj",
        )


class LeanConfig(Foreign):
    """A config.json of which `Lean` is the model."""

    model_type: Literal["llava_onevision"]
    text_config: TextConfig
    vision_config: VisionConfig
    image_token_index: Annotated[int, Field(ge=0, strict=True)]
    vision_feature_layer: Annotated[int, Field(strict=True)]
    projector_hidden_act: Literal["gelu"]
    multimodal_projector_bias: Literal[True]
    tie_word_embeddings: Literal[True]

    @property
    def fits(self) -> bool:
        """Whether the sizes go together, and heads of keys are as many as those of queries."""
        text, eye = self.text_config, self.vision_config
        whole = text.hidden_size % (2 * text.num_attention_heads) == 0 == eye.hidden_size % eye.num_attention_heads
        return whole and text.num_key_value_heads == text.num_attention_heads and eye.image_size >= eye.patch_size


class _Projector(nn.Module):
    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        size = config.text_config.hidden_size
        self.linear_1, self.linear_2 = nn.Linear(config.vision_config.hidden_size, size), nn.Linear(size, size)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, N, E) to rows (B, N, D)."""
        rows: Tensor = self.linear_2(F.gelu(self.linear_1(features)))
        return rows


class _Core(nn.Module):
    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        self.config = config
        self.image_newline = nn.Parameter(torch.empty(config.text_config.hidden_size))
        self.vision_tower = Eye(config.vision_config.sizes)
        self.multi_modal_projector = _Projector(config)
        self.language_model = Language(config.text_config.sizes)


class Lean(nn.Module):
    """A LLaVA-OneVision, of which the parts are called: names of parts and tensors are those of transformers.

    values  what its config.json says
    """

    def __init__(self, config: LeanConfig, values: Mapping[str, JSON]) -> None:
        super().__init__()
        text = config.text_config
        self.config, self.values = config, values
        self.model = _Core(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.lm_head.weight = self.model.language_model.embed_tokens.weight

    @property
    def language(self) -> Language:
        """The language model."""
        return self.model.language_model

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.lm_head.weight.dtype


def _renamed(name: str) -> str:
    for old, new in _PREFIXES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return f"model.{name}" if name.startswith(_PARTS) else name


def read(
    folder: Path, values: Mapping[str, JSON], dtype: torch.dtype, device: torch.device | None = None
) -> Lean | None:
    """The model of a checkpoint folder on a device (the CPU), its weights in a type; `values` are its config.json.

    None where it is another model, its weights are not one file, or they do not fit or cannot be read: what is wrong
    says transformers.
    """
    try:
        config = LeanConfig.model_validate(values)
    except ValidationError:
        return None
    if not config.fits:
        return None
    sizes = config.text_config.sizes
    return filled(lambda: Lean(config, values), folder, dtype, device, sizes, tied=True, renamed=_renamed)
