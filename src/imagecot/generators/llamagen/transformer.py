"""LlamaGen as `raster` draws with it: a prompt is two rows of a cache, however long it is.

Image codes attend to n rows of text in equal parts, whatever they ask for (`model.py`). So for each layer and head two
rows stand for all text: keys of zero, the mean of the text's values, and n as a bias on their scores. Two, because
log n is rounded in half precision; the second one holds the rest. Padding is never computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imagecot.generators.llamagen.model import LlamaGen, rotary_table, rotate
from imagecot.generators.llamagen.text import TextEncoder, left_padded
from imagecot.generators.raster.transformer import Attend, Prefix

_TEXT_ROWS = 2


@dataclass(frozen=True, eq=False)
class LlamaGenTransformer:
    """What `raster.transformer.CodeTransformer` asks for, of a LlamaGen and its text encoder."""

    model: LlamaGen
    text_encoder: TextEncoder

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads of keys and values, and head_dim."""
        config = self.model.config
        return config.n_layer, config.kv_heads, config.head_dim

    @property
    def cache_dtype(self) -> torch.dtype:
        """Type of keys and values."""
        return self.model.dtype

    @property
    def prefix_length(self) -> int:
        """Rows that stand for a prompt."""
        return _TEXT_ROWS

    def prefixes(self, prompts: Sequence[str], *, guided: bool) -> list[tuple[Prefix, ...]]:
        """Read prompts one by one; what guidance goes against depends on the length of a prompt alone."""
        texts = [self.text_encoder(prompt) for prompt in prompts]
        found: list[tuple[Prefix, ...]] = [(read_text(self.model, text),) for text in texts]
        if not guided:
            return found
        without = {n: read_text(self.model, self.model.without_text(n)) for n in {len(text) for text in texts}}
        return [(*one, without[len(text)]) for one, text in zip(found, texts, strict=True)]

    def read(self, codes: Tensor, first: int, attend: Attend) -> Tensor:
        """Read codes (R, n) at positions first, ...; normalised states (R, n, dim)."""
        cos, sin = (table[first : first + codes.shape[1]] for table in rotary_table(self.model.config, codes.device))
        x = self.model.tok_embeddings(codes)
        for index, layer in enumerate(self.model.blocks):
            q, k, v = layer.attention.heads_of(layer.attention_norm(x))
            x = layer.fed(x + layer.attention.wo(attend(index, rotate(q, cos, sin), rotate(k, cos, sin), v)))
        states: Tensor = self.model.norm(x)
        return states

    def head(self, states: Tensor) -> Tensor:
        """Return logits (..., codes) of states (..., dim)."""
        return self.model.logits(states)

    def states(self, prompts: Sequence[str], codes: Tensor, *, against: bool) -> Tensor:
        """Read prompts with complete codes (R, N) in one pass; states (R, N, dim)."""
        texts = [self.text_encoder(prompt) for prompt in prompts]
        if against:
            texts = [self.model.without_text(len(text)) for text in texts]
        return self.model.states(*left_padded([text.to(self.device) for text in texts]), codes)


def read_text(model: LlamaGen, features: Tensor) -> Prefix:
    """Return the prefix of a text of features (n, caption_dim), without padding."""
    x = model.cls_embedding(features.to(model.device, model.dtype)[None])
    count = torch.arange(1, len(features) + 1, device=x.device)[:, None, None]
    means = []
    for layer in model.blocks:
        values = layer.attention.heads_of(layer.attention_norm(x))[2]
        # A row attends to all rows before it in equal parts.
        running = (values.float().cumsum(dim=1) / count).to(values.dtype)
        means.append(running[0, -1])
        each_head = running.repeat_interleave(layer.attention.heads // layer.attention.kv_heads, dim=2)
        x = layer.fed(x + layer.attention.wo(each_head.flatten(2)))
    values = torch.stack(means)[:, :, None].expand(-1, -1, _TEXT_ROWS, -1)
    bias = _bias(len(features), x.dtype).to(x.device)
    return Prefix(torch.zeros_like(values), values, model.norm(x[0, -1]), bias)


def _bias(length: int, dtype: torch.dtype) -> Tensor:
    """Return two float32 numbers whose exponentials add up to `length`, also where they are rounded to `dtype`."""
    most = torch.tensor(math.log(length)).to(dtype)
    if math.exp(float(most)) > length:
        most = torch.nextafter(most, torch.zeros_like(most))
    rest = length - math.exp(float(most))
    return torch.tensor([float(most), math.log(rest) if rest > 0 else -math.inf])
