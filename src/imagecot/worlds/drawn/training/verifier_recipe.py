"""The recipe of a verifier from scratch: sizes of its two transformers, data and optimisation."""

from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, Field, model_validator
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from imagecot.errors import first_line
from imagecot.recipe_fields import RECIPE, Count, Few, Flag, Layers, Name, Place, Positive, Seed, Weight, Width
from imagecot.training.optimization import Optimization
from imagecot.training.tracking import ReportTo
from imagecot.worlds.drawn.scenes import SIZE


class VisionSizes(BaseModel):
    """The eye: a SigLIP of these sizes, of pictures of the drawn world."""

    model_config = RECIPE

    image_size: Annotated[int, Field(strict=True, ge=SIZE, le=SIZE)] = SIZE
    patch_size: Annotated[int, Field(strict=True, ge=1, le=SIZE)]
    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Few
    hidden_act: Name = "gelu_pytorch_tanh"
    layer_norm_eps: Positive = 1e-6


class TextSizes(BaseModel):
    """The language model: a Qwen2 or a Llama of these sizes."""

    model_config = RECIPE

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Few
    num_key_value_heads: Few
    max_position_embeddings: Count = 32768
    hidden_act: Name = "silu"
    rms_norm_eps: Positive = 1e-6


def check_heads(text: TextSizes) -> None:
    """Raise ValueError for heads that do not go with the width, or with each other."""
    if text.hidden_size % (2 * text.num_attention_heads):
        raise ValueError("twice text.num_attention_heads must divide text.hidden_size")
    if text.num_attention_heads % text.num_key_value_heads:
        raise ValueError("text.num_key_value_heads must divide text.num_attention_heads")


class VerifierRecipe(BaseModel):
    """A recipe of `imagecot train verifier`: sizes of the two transformers, data and optimisation."""

    model_config = RECIPE

    kind: Literal["verifier"] = "verifier"
    output: Place
    report_to: ReportTo = []
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 2
    held_out: Count = 500
    held_out_seed: Seed = 9002
    vision: VisionSizes
    text: TextSizes
    text_tokens: Annotated[int, Field(strict=True, ge=40, le=10_000)] = 126
    answer_weight: Weight = 1.0
    patch_weight: Weight = 0.5
    compile: Flag = False
    eye: Optimization
    optimization: Optimization

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        if SIZE % self.vision.patch_size:
            raise ValueError(f"vision.patch_size must divide {SIZE}, the size of the drawn world's pictures")
        check_heads(self.text)
        try:
            with torch.device("meta"):
                LlavaOnevisionForConditionalGeneration(config_of(self, 300, 299, 298))
        except Exception as error:  # a model of impossible sizes raises whatever its layers raise
            raise ValueError(f"no model has these sizes ({first_line(error)})") from None
        return self


def config_of(
    recipe: VerifierRecipe, vocabulary: int, image: int, pad: int, end: int | None = None
) -> LlavaOnevisionConfig:
    """The configuration of a LLaVA-OneVision with so many tokens, of which those of image, padding and end are told."""
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(vision_use_head=False, **recipe.vision.model_dump()),
        text_config=Qwen2Config(
            vocab_size=vocabulary,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
            **recipe.text.model_dump(),
        ),
        image_token_index=image,
        video_token_index=pad,
        tie_word_embeddings=True,
        vision_aspect_ratio="single",
        image_grid_pinpoints=[[recipe.vision.image_size] * 2],
    )
