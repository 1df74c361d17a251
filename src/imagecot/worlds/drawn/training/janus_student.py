"""A Janus of random weights that is to be trained on the drawn world, and what its codes have in common.

The head of a code is the sum of a part of its own and of a part per sign of the code, as codes that differ in one sign
look alike; `folded` adds the two, so that what is saved is a plain Janus. The embeddings of codes begin as their signs.
"""

import copy
from typing import Self

import torch
from pydantic import BaseModel, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAE,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from imagecot.errors import first_line
from imagecot.generators.janus.config import JanusParts
from imagecot.recipe_fields import RECIPE, Few, Layers, Positive, Width
from imagecot.worlds.drawn.scenes import SIZE
from imagecot.worlds.drawn.training.janus_text import IMAGE
from imagecot.worlds.drawn.training.packing import token_id
from imagecot.worlds.drawn.training.verifier_recipe import TextSizes, check_heads

_EMBEDDED = 0.1  # standard deviation of embeddings of words, which are also the rows of their head


class VisionSizes(BaseModel):
    """The eye: it sees as many patches as an image has codes."""

    model_config = RECIPE

    hidden_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Few
    mlp_ratio: Positive = 3.0


class JanusSizes(BaseModel):
    """Sizes of a Janus beside those of its image tokenizer."""

    model_config = RECIPE

    text: TextSizes
    vision: VisionSizes

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        check_heads(self.text)
        if self.vision.hidden_size % self.vision.num_attention_heads:
            raise ValueError("vision.num_attention_heads must divide vision.hidden_size")
        try:
            with torch.device("meta"):
                JanusForConditionalGeneration(config_of(self, JanusVQVAEConfig(num_patches=8), 300, 299))
        except Exception as error:  # a model of impossible sizes raises whatever its layers raise
            raise ValueError(f"no model has these sizes ({first_line(error)})") from None
        return self


def config_of(sizes: JanusSizes, image_tokenizer: JanusVQVAEConfig, vocabulary: int, image: int) -> JanusConfig:
    """The configuration of a Janus with so many text ids, of which `image` is the place of an image row."""
    side, width = image_tokenizer.num_patches, sizes.text.hidden_size
    return JanusConfig(
        text_config=LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=True, **sizes.text.model_dump()),
        vision_config=JanusVisionConfig(
            image_size=SIZE,
            patch_size=SIZE // side,
            num_image_tokens=side**2,
            projection_dim=width,
            **sizes.vision.model_dump(),
        ),
        vq_config=JanusVQVAEConfig(
            **image_tokenizer.to_dict() | {"projection_dim": width, "image_token_embed_dim": width}
        ),
        image_token_id=image,
        tie_word_embeddings=True,
    )


def new_janus(
    sizes: JanusSizes, image_tokenizer: JanusVQVAE, tokenizer: PreTrainedTokenizerFast
) -> JanusForConditionalGeneration:
    """A Janus of random weights around a trained image tokenizer, which stays as it is."""
    config = config_of(sizes, image_tokenizer.config, len(tokenizer), token_id(tokenizer, IMAGE))
    pad = tokenizer.pad_token_id
    assert isinstance(config.text_config, LlamaConfig) and isinstance(pad, int)
    config.text_config.pad_token_id = pad
    model = JanusForConditionalGeneration(config)
    model.model.vqmodel.load_state_dict(image_tokenizer.state_dict())
    model.model.vqmodel.requires_grad_(False)
    nn.init.normal_(model.model.language_model.embed_tokens.weight, std=_EMBEDDED)
    model.model.generation_embeddings.weight.data = image_tokenizer.quantize.embedding.weight.sign()
    for part in (model.model.generation_aligner, model.model.aligner):
        for layer in part.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)  # the usual 0.02 would hide codes and pictures
    return model


class SharedSigns(nn.Module):
    """A Janus whose rows of codes in the head are sums of a part per code and a part per sign of the code."""

    def __init__(self, model: JanusForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        entries = model.model.vqmodel.quantize.embedding.weight.sign()
        width = JanusParts.of(model.config).text.hidden_size
        self.shared = nn.Parameter(torch.zeros(entries.shape[1], width))
        self.entries: Tensor
        self.register_buffer("entries", entries.clone(), persistent=False)

    def code_logits(self, states: Tensor) -> Tensor:
        """Logits (..., codes) of states (..., D)."""
        head = self.model.model.generation_head
        hidden = head.activation_fn(head.proj_out(states))
        logits: Tensor = head.vision_head(hidden) + F.linear(F.linear(hidden, self.shared), self.entries)
        return logits

    @torch.no_grad()
    def folded(self) -> JanusForConditionalGeneration:
        """A copy of the Janus with the parts per sign added to its rows."""
        model = copy.deepcopy(self.model)
        model.model.generation_head.vision_head.weight += self.entries @ self.shared
        return model.eval()
