"""Phi, the language model under Show-o: `PhiForCausalLM` of transformers with `qk_layernorm=True`, and what it needs.

The published weights have norms of queries and keys, although the configuration of phi-1_5 says otherwise. Names of
tensors, initial weights and every product are those of transformers, whose own class takes seconds to import.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from imagecot.generators.attention import KeysAndValues, Rotary, attend, rotated
from imagecot.generators.showo.config import ShowoConfig

_SPREAD = 0.02  # of initial weights


class PhiAttention(nn.Module):
    """Attention with rotary positions, and norms of queries and keys."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.head_dim = size // config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.dense = (nn.Linear(size, size) for _ in range(4))
        self.q_layernorm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps)
        self.k_layernorm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps)

    def forward(
        self,
        h: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None,
        fused: bool,
        cache: KeysAndValues | None,
        layer: int,
    ) -> Tensor:
        """Map h (B, L, D) to (B, L, D); `mask` as of `Phi`, `turn` are cosines and sines of the positions."""
        split = (
            one(h).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for one in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k, v = split
        q, k = rotated(self.q_layernorm(q), *turn), rotated(self.k_layernorm(k), *turn)
        if cache is not None:
            k, v = cache.update(k, v, layer)
        out: Tensor = self.dense(attend(q, k, v, mask, fused=fused, causal=True))
        return out


class PhiMLP(nn.Module):
    """The feed-forward layer; fused tanh GELU is what phi-1_5 calls gelu_new."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, h: Tensor) -> Tensor:
        """Map h (B, L, D) to (B, L, D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(h), approximate="tanh"))
        return out


class PhiLayer(nn.Module):
    """A layer, whose attention and feed-forward layer read the same norm."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.self_attn = PhiAttention(config)
        self.mlp = PhiMLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None,
        fused: bool,
        cache: KeysAndValues | None,
        layer: int,
    ) -> Tensor:
        """Map x (B, L, D) to (B, L, D); arguments as of the attention."""
        h = self.input_layernorm(x)
        attended: Tensor = self.self_attn(h, turn, mask, fused, cache, layer)
        fed: Tensor = self.mlp(h)
        return attended + fed + x


class Phi(nn.Module):
    """The trunk, from ids to normalised states.

    fused    whether attention is the kernel of torch; the plain one is faster to train on a CPU
    """

    supports_gradient_checkpointing = True

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([PhiLayer(config) for _ in range(config.num_hidden_layers)])
        self.rotary_emb = rotary(config)
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fused, self.checkpointed = True, False
        self.apply(_begin)

    @property
    def blocks(self) -> list[PhiLayer]:
        """The layers in their order."""
        return cast("list[PhiLayer]", [*self.layers])

    def activation_checkpointing_enable(self) -> None:
        """Compute the activations of every layer again in the backward pass."""
        self.checkpointed = True

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KeysAndValues | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return states (B, L, D) of ids (B, L), or of what they are embedded as (B, L, D).

        attention_mask  (B or 1, 1, L, K), as of `attend`; None where a token sees those before it, without a cache
        position_ids    (B or 1, L); counted from 0 where there are none
        cache           keys and values of the tokens before, which those of these join
        """
        x: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = torch.arange(x.shape[1], device=x.device)[None]
        turn = self.rotary_emb(position_ids, x.dtype)
        for number, layer in enumerate(self.blocks):
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(layer, x, turn, attention_mask, self.fused, cache, number, use_reentrant=False)
            else:
                x = layer(x, turn, attention_mask, self.fused, cache, number)
        states: Tensor = self.final_layernorm(x)
        return states


class PhiForCausalLM(nn.Module):
    """The trunk under the name `model`, and the head."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.model = Phi(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        _begin(self.lm_head)


def rotary(config: ShowoConfig) -> Rotary:
    """The rotary embedding of a trunk."""
    per_head = config.hidden_size // config.num_attention_heads
    return Rotary(int(per_head * config.partial_rotary_factor), config.rope_theta)


def _begin(module: nn.Module) -> None:
    """Give a layer its initial weights."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_SPREAD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
