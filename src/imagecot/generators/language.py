"""The layers of a Llama or Qwen2, number by number as transformers computes them, with its names of parts and tensors.

What is only asked or drawn with is made of these: the model classes of transformers take seconds to import.
"""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from imagecot.generators.attention import KeysAndValues, attend, frequencies, rotated


@dataclass(frozen=True)
class LanguageSizes:
    """What a language model is built by: its channels, those between them, layers, heads and their channels, and words.

    eps     of the normalisation
    theta   base of the rotary positions
    biased  whether queries, keys and values have biases
    """

    width: int
    inner: int
    layers: int
    heads: int
    head_dim: int
    words: int
    eps: float
    theta: float
    biased: bool


class States(NamedTuple):
    """What a language model returns."""

    last_hidden_state: Tensor


class RmsNorm(nn.Module):
    """Division by the root mean square, in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self._eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., D) to (..., D)."""
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return self.weight * wide.to(x.dtype)


class Angles(nn.Module):
    """Cosines and sines of positions, under the signature of transformers' rotary embeddings."""

    inv_freq: Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.register_buffer("inv_freq", frequencies(head_dim, theta), persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (B, L, head_dim) of positions (B, L), in the type of x."""
        angles = position_ids[..., None].float() * self.inv_freq.to(position_ids.device, torch.float)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


class SelfAttention(nn.Module):
    """The projections of attention; those of queries, keys and values may have biases."""

    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.head_dim, all_heads = sizes.head_dim, sizes.heads * sizes.head_dim
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(sizes.width, all_heads, bias=sizes.biased) for _ in range(3))
        self.o_proj = nn.Linear(all_heads, sizes.width, bias=False)

    def heads(self, layer: nn.Module, h: Tensor) -> Tensor:
        """What one of the layers makes of h (B, L, D): queries, keys or values (B, heads, L, head_dim)."""
        split: Tensor = layer(h).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        return split


class GatedMlp(nn.Module):
    """Two layers, the inner one gated."""

    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(sizes.width, sizes.inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(sizes.inner, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., D) to (..., D)."""
        made: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return made


class LanguageLayer(nn.Module):
    """Attention and the gated layers, each normalised before and added."""

    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.self_attn, self.mlp = SelfAttention(sizes), GatedMlp(sizes)
        self.input_layernorm, self.post_attention_layernorm = (RmsNorm(sizes.width, sizes.eps) for _ in range(2))

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KeysAndValues | None,
        layer: int,
        wanted: slice,
    ) -> Tensor:
        """Map x (B, L, D) to its wanted positions (B, n, D): all, or the last one.

        turn  cosines and sines of the positions
        mask  as of `attend`
        """
        attention, h = self.self_attn, self.input_layernorm(x)
        k, v = (attention.heads(part, h) for part in (attention.k_proj, attention.v_proj))
        k = rotated(k, *turn)
        if cache is not None:
            k, v = cache.update(k, v, layer)
        q = rotated(attention.heads(attention.q_proj, h[:, wanted]), *(part[:, :, wanted] for part in turn))
        mask = None if mask is None else mask[:, :, wanted]
        x = x[:, wanted] + attention.o_proj(attend(q, k, v, mask, causal=True))
        made: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return made


class Language(nn.Module):
    """A language model without its head."""

    supports_gradient_checkpointing = True

    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(sizes.words, sizes.width)
        self.layers = nn.ModuleList([LanguageLayer(sizes) for _ in range(sizes.layers)])
        self.norm = RmsNorm(sizes.width, sizes.eps)
        self.rotary_emb = Angles(sizes.head_dim, sizes.theta)
        self._checkpointed = False

    @property
    def blocks(self) -> list[LanguageLayer]:
        """The layers in their order."""
        return cast("list[LanguageLayer]", [*self.layers])

    def activation_checkpointing_enable(self) -> None:
        """Compute the activations of every layer again in the backward pass."""
        self._checkpointed = True

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: KeysAndValues | None = None,
        use_cache: bool = False,
        last: bool = False,
    ) -> States:
        """Read embeds (B, n, D) at positions (B, n) behind a cache.

        position_ids    None where they are 0, 1, ...
        attention_mask  (B, K), 0 where a key of cache and embeds is padding; None where none is
        use_cache       says nothing: what is read joins the cache that is given
        last            whether the state of the last position alone is wanted: (B, 1, D)
        """
        n, device = inputs_embeds.shape[1], inputs_embeds.device
        before = next((keys.shape[2] for keys, _ in cache), 0) if cache is not None else 0
        if position_ids is None:
            position_ids = torch.arange(n, device=device)[None]
        mask = None
        if attention_mask is not None or (before and n > 1):
            place = torch.arange(before + n, device=device)
            mask = (place <= place[before:, None])[None, None]
            if attention_mask is not None:
                mask = mask & attention_mask.bool()[:, None, None]
            mask = mask.expand(len(inputs_embeds), -1, -1, -1)
        cos, sin = self.rotary_emb(inputs_embeds, position_ids)
        x, turn = inputs_embeds, (cos[:, None], sin[:, None])
        for number, layer in enumerate(self.blocks):
            wanted = slice(-1, None) if last and number == len(self.layers) - 1 else slice(None)
            if self._checkpointed and torch.is_grad_enabled():
                x = checkpoint(layer, x, turn, mask, cache, number, wanted, use_reentrant=False)
            else:
                x = layer(x, turn, mask, cache, number, wanted)
        return States(self.norm(x))
