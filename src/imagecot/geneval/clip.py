"""CLIP as transformers has it: the unit vectors that it makes of texts and of images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.errors import ImagecotError

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase, SiglipModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling


@torch.no_grad()
def text_vectors(model: "CLIPModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], name: str) -> Tensor:
    """Unit vectors (B, D) float32 of texts by a CLIP that is called `name`.

    ImagecotError where the tokenizer does not mark the end of texts: the feature is read there, and without it all
    texts would look the same.
    """
    tokens = tokenizer([*texts], padding=True, return_tensors="pt")
    last = tokens.input_ids.gather(1, tokens.attention_mask.sum(1, keepdim=True) - 1)
    if not bool((last == tokenizer.eos_token_id).all()):
        raise ImagecotError(f"the tokenizer of {name} does not mark the end of texts; copy it again.")
    return encoded_texts(model, tokens.to(model.device))


@torch.no_grad()
def encoded_texts(model: "CLIPModel | SiglipModel", tokens: Mapping[str, Tensor]) -> Tensor:
    """Unit vectors (B, D) float32 of texts that are tokens (B, L)."""
    return _unit(model.get_text_features(**tokens))


@torch.no_grad()
def image_vectors(model: "CLIPModel | SiglipModel", pixels: Tensor) -> Tensor:
    """Unit vectors (B, D) float32 of images (B, 3, S, S) that are prepared as the model was trained."""
    return _unit(model.get_image_features(pixel_values=pixels.to(model.device, model.dtype)))


def _unit(output: "Tensor | BaseModelOutputWithPooling") -> Tensor:
    """What transformers 4 returned bare, and 5 as `pooler_output`, in float32 and of length 1."""
    found = output if isinstance(output, Tensor) else output.pooler_output
    assert found is not None
    return F.normalize(found.float(), dim=-1)
