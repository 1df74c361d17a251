"""The Llama of a Janus as `raster` draws with it: the layers of the stock model, run on the codes that are new.

Rotary positions only count differences, so the first code stands at position 0 and a prompt of L ids at -L..-1, and
prompts of different lengths need no padding. Both guidance's rows and the loss read them so.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.generators.janus.config import JanusParts
from imagecot.generators.janus.lean import AnyJanus
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.language import Language, LanguageLayer
from imagecot.generators.raster.transformer import Attend, Prefix

if TYPE_CHECKING:
    from transformers import LlamaModel

_AT_ONCE = 64  # prompts that are read together
_USUAL = 64  # ids of a prompt


@dataclass(frozen=True, eq=False)
class JanusTransformer:
    """What `raster.transformer.CodeTransformer` asks for, of a Janus and its prompts."""

    model: AnyJanus
    prompting: JanusPrompting

    @property
    def trunk(self) -> "LlamaModel | Language":
        """The language model, without its head."""
        trunk: LlamaModel | Language = self.model.model.language_model
        return trunk

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.trunk.embed_tokens.weight.device

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads of keys and values, and head_dim."""
        parts = JanusParts.of(self.model.config)
        heads = parts.text.num_key_value_heads or parts.text.num_attention_heads
        return parts.text.num_hidden_layers, heads, parts.head_dim

    @property
    def cache_dtype(self) -> torch.dtype:
        """Type of keys and values."""
        return self.trunk.embed_tokens.weight.dtype

    @property
    def prefix_length(self) -> int:
        """About how many ids a prompt has."""
        return min(_USUAL, self.prompting.max_ids)

    def prefixes(self, prompts: Sequence[str], *, guided: bool) -> list[tuple[Prefix, ...]]:
        """Read prompts; prompts of one length, and the unconditional one of that length, share a batch."""
        asked = [tuple(self.prompting.ids(prompt)) for prompt in prompts]
        against = [tuple(self.prompting.against([*ids])) for ids in asked] if guided else []
        by_length = defaultdict(list)
        for ids in dict.fromkeys([*asked, *against]):
            by_length[len(ids)].append(ids)
        found: dict[tuple[int, ...], Prefix] = {}
        for same in by_length.values():
            for first in range(0, len(same), _AT_ONCE):
                part = same[first : first + _AT_ONCE]
                found.update(zip(part, self._read_prompts(part), strict=True))
        wanted = zip(asked, against, strict=True) if guided else ((ids,) for ids in asked)
        return [tuple(found[ids] for ids in both) for both in wanted]

    def _read_prompts(self, prompts: Sequence[tuple[int, ...]]) -> list[Prefix]:
        """The prefixes of prompts of L ids each."""
        ids = torch.tensor(prompts, device=self.device)
        seen = _Seen()
        states = self._run(self.trunk.embed_tokens(ids), -ids.shape[1], seen.attend)[:, -1]
        keys, values = torch.stack(seen.keys, 1), torch.stack(seen.values, 1)
        return [Prefix(*whole) for whole in zip(keys, values, states, strict=True)]

    def read(self, codes: Tensor, first: int, attend: Attend) -> Tensor:
        """Read codes (R, n) at positions first, ...; normalised states (R, n, width)."""
        return self._run(self.model.prepare_embeddings_for_image_generation(codes), first, attend)

    def _run(self, x: Tensor, first: int, attend: Attend) -> Tensor:
        """Run the layers on embeddings (R, n, width) at positions first, ..., first + n - 1."""
        turn = self._turn(x, first)
        for index, layer in enumerate(self.trunk.layers):
            layer = cast(LanguageLayer, layer)  # or that of transformers, whose parts have the same names
            attention, h = layer.self_attn, layer.input_layernorm(x)
            q, k, v = (
                projection(h).unflatten(-1, (-1, attention.head_dim))
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            x = x + attention.o_proj(attend(index, _turned(q, *turn), _turned(k, *turn), v))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        states: Tensor = self.trunk.norm(x)
        return states

    def _turn(self, x: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (n, 1, head_dim) of the positions of x (R, n, width), the first half of sines negative."""
        positions = torch.arange(first, first + x.shape[1], device=x.device)[None]
        cos, sin = self.trunk.rotary_emb(x, position_ids=positions)
        low, high = sin.chunk(2, -1)
        return cos[0, :, None], torch.cat([-low, high], -1)[0, :, None]

    def head(self, states: Tensor) -> Tensor:
        """Return logits (..., codes) of states (..., width)."""
        logits: Tensor = self.model.model.generation_head(states)
        return logits

    def states(self, prompts: Sequence[str], codes: Tensor, *, against: bool) -> Tensor:
        """Read prompts with complete codes (R, N) in one pass of the stock model; states (R, N, width)."""
        rows = [self.prompting.ids(prompt) for prompt in prompts]
        if against:
            rows = [self.prompting.against(ids) for ids in rows]
        return self.states_of(rows, codes)

    def states_of(self, rows: Sequence[list[int]], codes: Tensor) -> Tensor:
        """What `states` returns, of the ids of prompts (R of them), from bos to boi."""
        lengths = torch.tensor([len(ids) for ids in rows], device=codes.device)[:, None]
        width, read = int(lengths.max()), codes.shape[1] - 1
        # Padding stands behind everything, where causality hides it.
        padded = torch.tensor([ids + [self.prompting.pad_id] * (width - len(ids)) for ids in rows], device=codes.device)
        images = self.model.prepare_embeddings_for_image_generation(codes[:, :-1])
        both = torch.cat([self.trunk.embed_tokens(padded), images], 1)
        place = torch.arange(width + read, device=codes.device).expand(len(rows), -1)
        order = torch.where(place < lengths, place, place - lengths + width)
        order = torch.where(place < lengths + read, order, 0)
        row = torch.arange(len(rows), device=codes.device)[:, None]
        device = codes.device.type
        # A residual stream in autocast's type saves its casts before every layer.
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else both.dtype
        states = self.trunk(inputs_embeds=both[row, order].to(kind), use_cache=False).last_hidden_state
        return states[row, lengths - 1 + torch.arange(codes.shape[1], device=codes.device)]


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate heads (R, n, heads, head_dim) as Llama does, to the bit, in half the operations."""
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


@dataclass(frozen=True, eq=False)
class _Seen:
    """Keys and values (R, kv_heads, L, head_dim) of each layer, as prompts are read."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention of a prompt to itself."""
        q, k, v = (tensor.transpose(1, 2) for tensor in (queries, keys, values))
        self.keys.append(k)
        self.values.append(v)
        gqa = queries.shape[2] != keys.shape[2]
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa).transpose(1, 2).flatten(2)
