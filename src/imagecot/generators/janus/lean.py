"""Janus to be drawn with and asked: eye, Llama and image tokenizer, number by number as transformers computes them.

The class of transformers takes seconds to import, and is what fine-tuning of answers trains. `read` makes this one of
checkpoints that are built as the shipped ones are; of any other, and of what does not fit, it says nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.values import JSON
from imagecot.generators.eye import Eye, EyeSizes
from imagecot.generators.janus.lean_vq import LeanVq, Size, VqConfig
from imagecot.generators.language import Language, LanguageSizes
from imagecot.generators.lean import filled
from imagecot.reading import Foreign

if TYPE_CHECKING:
    from transformers import JanusForConditionalGeneration

AnyJanus: TypeAlias = "JanusForConditionalGeneration | LeanJanus"

Depth = Annotated[int, Field(ge=1, le=1_000)]
Eps = Annotated[float, Field(gt=0, le=0.1)]
Zero = Annotated[float, Field(ge=0, le=0)]


class _Rope(Foreign):
    rope_type: Literal["default"]
    rope_theta: Annotated[float, Field(ge=1, le=1e12)]


class TextConfig(Foreign):
    """What config.json says of the Llama, all of which has to be said."""

    model_type: Literal["llama"]
    hidden_act: Literal["silu"]
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Depth
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    vocab_size: Annotated[int, Field(ge=1, le=100_000_000)]
    max_position_embeddings: Annotated[int, Field(ge=1, le=100_000_000)]
    rms_norm_eps: Eps
    rope_parameters: _Rope
    attention_bias: Literal[False]
    mlp_bias: Literal[False]
    attention_dropout: Zero

    @property
    def sizes(self) -> LanguageSizes:
        """What the layers are built by."""
        return LanguageSizes(
            width=self.hidden_size,
            inner=self.intermediate_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            head_dim=self.head_dim,
            words=self.vocab_size,
            eps=self.rms_norm_eps,
            theta=self.rope_parameters.rope_theta,
            biased=False,
        )


class VisionConfig(Foreign):
    """What config.json says of the eye, all of which has to be said."""

    model_type: Literal["janus_vision_model"]
    hidden_act: Literal["gelu"]
    hidden_size: Size
    num_hidden_layers: Depth
    num_attention_heads: Size
    num_channels: Literal[3]
    image_size: Size
    patch_size: Size
    layer_norm_eps: Eps
    mlp_ratio: Annotated[float, Field(gt=0, le=1_000)]
    attention_bias: Literal[True]
    attention_dropout: Zero
    hidden_dropout_rate: Zero
    projection_dropout: Zero
    projection_dim: Size
    use_qk_norm: Literal[False]
    depth: Depth
    num_image_tokens: Size

    @property
    def sizes(self) -> EyeSizes:
        """What the layers are built by."""
        return EyeSizes(
            width=self.hidden_size,
            inner=int(self.hidden_size * self.mlp_ratio),
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            image=self.image_size,
            patch=self.patch_size,
            eps=self.layer_norm_eps,
            gelu="none",
            out="projection_layer",
        )


class LeanConfig(Foreign):
    """A config.json of which `LeanJanus` is the model."""

    model_type: Literal["janus"]
    text_config: TextConfig
    vision_config: VisionConfig
    vq_config: VqConfig
    image_token_id: Annotated[int, Field(ge=0)]
    tie_word_embeddings: bool

    @property
    def fits(self) -> bool:
        """Whether the sizes go together, and heads of keys are as many as those of queries."""
        text, eye, codes = self.text_config, self.vision_config, self.vq_config
        grid = eye.image_size // eye.patch_size
        return (
            text.num_key_value_heads == text.num_attention_heads
            and text.head_dim % 2 == 0 == eye.hidden_size % eye.num_attention_heads
            and grid == codes.num_patches
            and grid**2 == eye.num_image_tokens
            and all(width % 32 == 0 for width in codes.widths)
            and {codes.projection_dim, codes.image_token_embed_dim, eye.projection_dim} == {text.hidden_size}
        )


class _Aligner(nn.Module):
    """Layers between the channels of an eye, or of codes, and those of the language model."""

    def __init__(self, before: int, after: int, depth: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(before, after)
        self.hidden_layers = nn.ModuleList([nn.Linear(after, after) for _ in range(1, depth)])

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., before) to (..., after)."""
        h: Tensor = self.fc1(x)
        for layer in self.hidden_layers:
            h = layer(F.gelu(h))
        return h


class _CodeHead(nn.Module):
    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.proj_out = nn.Linear(config.image_token_embed_dim, config.projection_dim)
        self.vision_head = nn.Linear(config.projection_dim, config.num_embeddings)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (..., D) to logits (..., codes)."""
        logits: Tensor = self.vision_head(F.gelu(self.proj_out(states)))
        return logits


class _Features(NamedTuple):
    """What the eye and its aligner return."""

    pooler_output: Tensor


class _Core(nn.Module):
    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        eye, codes = config.vision_config, config.vq_config
        self.vision_model = Eye(eye.sizes)
        self.aligner = _Aligner(eye.hidden_size, eye.projection_dim, eye.depth)
        self.vqmodel = LeanVq(codes)
        self.generation_embeddings = nn.Embedding(codes.num_embeddings, codes.embed_dim)
        self.generation_aligner = _Aligner(codes.embed_dim, codes.projection_dim, codes.num_hidden_layers)
        self.generation_head = _CodeHead(codes)
        self.language_model = Language(config.text_config.sizes)

    def get_image_features(self, pixel_values: Tensor) -> _Features:
        """The rows (B, R, D) of the language model for pixels (B, 3, S, S)."""
        return _Features(self.aligner(self.vision_model(pixel_values)))


class LeanJanus(nn.Module):
    """A Janus, of which the parts are called: names of parts and tensors are those of transformers.

    values  what its config.json says
    """

    def __init__(self, config: LeanConfig, values: Mapping[str, JSON]) -> None:
        super().__init__()
        text = config.text_config
        self.config, self.values = config, values
        self.model = _Core(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

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

    def prepare_embeddings_for_image_generation(self, inputs: Tensor) -> Tensor:
        """What the language model reads (..., D) of codes (...)."""
        rows: Tensor = self.model.generation_aligner(self.model.generation_embeddings(inputs))
        return rows


def read(
    folder: Path, values: Mapping[str, JSON], dtype: torch.dtype, device: torch.device | None = None
) -> LeanJanus | None:
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
    sizes, tied = config.text_config.sizes, config.tie_word_embeddings
    return filled(lambda: LeanJanus(config, values), folder, dtype, device, sizes, tied=tied)
