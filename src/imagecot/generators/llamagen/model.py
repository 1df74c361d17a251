"""LlamaGen: a Llama over the text features of T5 and image codes in raster order (Sun et al., 2024), text to image.

State-dict names and shapes are those of the released `t2i_XL_stage1_256.pt` and `t2i_XL_stage2_512.pt`.

Text has no rotary position: the reference multiplies its queries and keys by zeros. So every text key is the zero
vector, each row of text attends to those before it in equal parts, and so does an image code to all text.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from imagecot.checkpoint import CONFIG
from imagecot.errors import UsageError
from imagecot.generators.llamagen.config import LlamaGenConfig
from imagecot.generators.llamagen.released import check_size, load_released
from imagecot.weights import save_checkpoint


@lru_cache(maxsize=32)
def rotary_table(config: LlamaGenConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (N, 1, head_dim / 2) in float32 of the image codes.

    The first half of the channel pairs turns by the row of a code, the second half by its column.
    """
    half = config.head_dim // 2
    turns = 1.0 / config.rope_base ** (torch.arange(0, half, 2, dtype=torch.float32, device=device) / half)
    angles = torch.arange(config.grid_size, device=device)[:, None] * turns
    side = config.grid_size
    rows, columns = angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)
    grid = torch.cat([rows, columns], dim=-1).flatten(0, 1)[:, None]
    return grid.cos(), grid.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring channels of heads (B, L, heads, head_dim) by tables (L, 1, head_dim / 2), in float32."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class Attention(nn.Module):
    """Heads of queries, keys and values from one matrix; heads of queries may share those of keys and values."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.n_head, config.kv_heads, config.head_dim
        self.wqkv = nn.Linear(config.dim, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=False)
        self.wo = nn.Linear(config.dim, config.dim, bias=False)

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, L, heads, head_dim) of x (B, L, dim), not rotated yet."""
        all_heads = self.wqkv(x).unflatten(-1, (-1, self.head_dim))
        q, k, v = all_heads.split([self.heads, self.kv_heads, self.kv_heads], dim=-2)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, is_causal: bool = False) -> Tensor:
        """Return (B, L, dim) for queries (B, heads, L, head_dim), keys and values (B, kv_heads, S, head_dim)."""
        shared = self.heads != self.kv_heads
        attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, enable_gqa=shared)
        return self.wo(attended.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend among x (B, L, dim): where `allowed` (B, 1, L, L) is true, or to all before where it is None."""
        q, k, v = self.heads_of(x)
        q, k, v = (part.transpose(1, 2) for part in (rotate(q, cos, sin), rotate(k, cos, sin), v))
        return self.attend(q, k, v, allowed, is_causal=allowed is None)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.dim, config.hidden_size, bias=False)
        self.w3 = nn.Linear(config.dim, config.hidden_size, bias=False)
        self.w2 = nn.Linear(config.hidden_size, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual connection."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def fed(self, x: Tensor) -> Tensor:
        """The second half of the block, on (B, L, dim)."""
        return x + self.feed_forward(self.ffn_norm(x))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, allowed: Tensor | None) -> Tensor:
        """Map (B, L, dim) to (B, L, dim); arguments as of `Attention`."""
        return self.fed(x + self.attention(self.attention_norm(x), cos, sin, allowed))


class Projection(nn.Module):
    """Two linear maps around a tanh GELU."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.caption_dim, config.dim, bias=False)
        self.fc2 = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        """Map features (..., caption_dim) to (..., dim)."""
        return self.fc2(F.gelu(self.fc1(text), approximate="tanh"))


class CaptionEmbedder(nn.Module):
    """Features of text to embeddings; `uncond_embedding` stands in for the features of no text.

    No optimiser ever moves that table: what a model was trained with is what its checkpoint holds.
    """

    uncond_embedding: Tensor

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        table = torch.randn(config.cls_token_num, config.caption_dim) / config.caption_dim**0.5
        self.register_buffer("uncond_embedding", table)
        self.cap_proj = Projection(config)
        self.register_load_state_dict_pre_hook(_take_rows)

    def forward(self, text: Tensor) -> Tensor:
        """Map features (B, T, caption_dim) to (B, T, dim)."""
        return self.cap_proj(text)


def _take_rows(embedder: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    """How many rows stand for no text is what the weights say: the reference always has 120."""
    table, found = embedder.get_buffer("uncond_embedding"), state.get(f"{prefix}uncond_embedding")
    if found is not None and found.shape[1:] == table.shape[1:]:
        embedder.register_buffer("uncond_embedding", table.new_empty(found.shape))


class LlamaGen(nn.Module):
    """The transformer, from text features and codes to the logits of codes."""

    supports_gradient_checkpointing = True

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_embedding = CaptionEmbedder(config)
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.output = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.checkpointed = False

    @property
    def blocks(self) -> list[Block]:
        """The layers in their order."""
        return cast("list[Block]", [*self.layers])

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.output.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.output.weight.dtype

    def activation_checkpointing_enable(self) -> None:
        """Compute the activations of every block again in the backward pass."""
        self.checkpointed = True

    def logits(self, states: Tensor) -> Tensor:
        """Return float32 logits (..., vocab_size) of states (..., dim)."""
        return self.output(states).float()

    def states(self, text: Tensor, text_mask: Tensor | None, codes: Tensor) -> Tensor:
        """Return the normalised states (B, N, dim) that predict the codes; arguments as of `forward`."""
        rows, count = text.shape[1], codes.shape[1]
        if not 1 <= count <= self.config.block_size:
            raise UsageError(f"{count} codes are no part of an image of {self.config.block_size} codes (block_size).")
        x = torch.cat([self.cls_embedding(text.to(self.dtype)), self.tok_embeddings(codes[:, :-1])], dim=1)
        if torch.is_autocast_enabled(x.device.type):
            # A residual stream in autocast's type saves its casts before every layer.
            x = x.to(torch.get_autocast_dtype(x.device.type))
        cos, sin = (F.pad(t[: count - 1], (0, 0, 0, 0, rows, 0)) for t in rotary_table(self.config, x.device))
        allowed = None if text_mask is None or bool(text_mask.all()) else _allowed(text_mask.bool(), x.shape[1])
        for layer in self.blocks:
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(layer, x, cos, sin, allowed, use_reentrant=False)
            else:
                x = layer(x, cos, sin, allowed)
        return self.norm(x[:, rows - 1 :])

    def forward(self, text: Tensor, text_mask: Tensor | None, codes: Tensor) -> Tensor:
        """Return float32 logits (B, N, vocab_size), of which position i predicts code i of codes (B, N) int64.

        text       (B, T, caption_dim) features of T5, padded on the left
        text_mask  (B, T), true or 1 where text is; None where all rows of text are seen

        UsageError for more codes than an image has.
        """
        return self.logits(self.states(text, text_mask, codes))

    def without_text(self, length: int) -> Tensor:
        """Return the features (length, caption_dim) that guidance goes against, for a prompt of so many rows.

        They take the prompt's place, and are seen through its mask: how long it is matters, and what it says does not.

        UsageError where the checkpoint has fewer rows.
        """
        table = self.cls_embedding.uncond_embedding
        if length > len(table):
            raise UsageError(f"the prompt has {length} rows of text, but {len(table)} stand for no text; shorten it.")
        return table[len(table) - length :]

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load `config.json` and weights, ours or released ones, of a checkpoint folder.

        By default the weights keep their stored type and stay on the CPU. ImagecotError where they do not fit.
        """
        config = LlamaGenConfig.from_pretrained(folder)
        model, found = load_released(lambda: cls(config), folder, device, dtype)
        check_size(found, config.block_size, str(Path(folder) / CONFIG))
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        save_checkpoint(folder, self.config.to_dict(), self.state_dict())


def _allowed(text_mask: Tensor, length: int) -> Tensor:
    """Return the mask (B, 1, L, L): each row sees what is before it and no padding, and itself."""
    position = torch.arange(length, device=text_mask.device)
    seen = F.pad(text_mask, (0, length - text_mask.shape[1]), value=True)[:, None]
    causal = position[:, None] >= position
    return ((causal & seen) | (position[:, None] == position))[:, None]
