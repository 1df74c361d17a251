"""The exact short cut of drawing: text never sees the image, so its keys and values are computed once.

The functions run the layers of the Phi model, but on the rows that a step needs: soi, the image and
eoi, which attend to everything and need no mask. Rotary positions only count differences, so soi stands at
position 0 and a text of L ids at -L..-1, whatever its padding was.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.devices import sent
from imagecot.generators.showo.model import Showo, omni_attention_mask
from imagecot.generators.showo.phi import PhiAttention, PhiMLP

# The number formats in which oneDNN fuses a product with an activation here; it has bfloat16 from AVX-512 on.
_FUSED = {torch.float32}
if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
    _FUSED = set()
elif torch.ops.mkldnn._is_mkldnn_bf16_supported():
    _FUSED.add(torch.bfloat16)


@dataclass(frozen=True)
class Prefix:
    """Keys and values of one text and the image it may end in: for each layer a tensor (length, heads, head_dim)."""

    keys: list[Tensor]
    values: list[Tensor]


def encode_prefixes(model: Showo, texts: list[list[int]]) -> list[Prefix]:
    """Return the keys and values of each text, given as ids without padding; equal lengths share a batch.

    A text may end in an image, from soi to eoi: its tokens attend to each other and to the text before it.
    """
    by_length = defaultdict(list)
    for index, text in enumerate(texts):
        by_length[len(text)].append(index)
    prefixes: dict[int, Prefix] = {}
    for length, members in by_length.items():
        cos, sin = rotary_table(model, torch.arange(-length, 0, device=model.device))
        ids = sent(torch.tensor([texts[i] for i in members]), model.device)
        x = model.showo.model.embed_tokens(ids)
        pad_id, soi_id, eoi_id = range(model.config.llm_vocab_size, model.config.llm_vocab_size + 3)
        # Plain text is the usual case, and its mask has a faster kernel.
        shows = any(soi_id in texts[i] for i in members)
        allowed = omni_attention_mask(ids, pad_id, soi_id, eoi_id) if shows else None
        keys, values = [], []
        for layer in model.showo.model.blocks:
            h = layer.input_layernorm(x)
            k, v = _keys_and_values(layer.self_attn, h)
            keys.append(rotate_(k, cos, sin))
            values.append(v)
            q = rotate_(_queries(layer.self_attn, h), cos, sin)
            attended = _attend(q, k, v, allowed, is_causal=allowed is None)
            x = x + layer.self_attn.dense(attended) + feed_forward(layer.mlp, h)
        for place, index in enumerate(members):
            prefixes[index] = Prefix([k[place] for k in keys], [v[place] for v in values])
    return [prefixes[index] for index in range(len(texts))]


def image_states(model: Showo, image_ids: Tensor, prefixes: list[tuple[Prefix, int]], places: Tensor) -> Tensor:
    """Return the normalised hidden states (R, K, D) at K places of each image.

    image_ids  (R, N + 2), soi and eoi included
    prefixes   the texts of the rows in order, each with the number of consecutive rows that share it
    places     (R, K); the last layer answers at these positions only
    """
    cos, sin = rotary_table(model, torch.arange(image_ids.shape[1], device=image_ids.device))
    kept = 1 + places
    last = len(model.showo.model.layers) - 1
    # Before the first attention a token is its embedding alone, so equal tokens are worked out once: most of an image
    # is masked, a code stands in many rows, and conditional and unconditional rows hold the same image. A GPU computes
    # all, and nobody waits to be told how many there are.
    once = last > 0 and image_ids.device.type == "cpu"
    distinct, place = image_ids.unique(return_inverse=True) if once else (image_ids, image_ids)
    x = model.showo.model.embed_tokens(distinct)
    for index, layer in enumerate(model.showo.model.blocks):
        h = layer.input_layernorm(x)
        k, v = _keys_and_values(layer.self_attn, h)
        if index == last:
            at = kept[:, :, None].expand(-1, -1, h.shape[-1])
            x, h = x.gather(1, at), h.gather(1, at)
        q, fed = _queries(layer.self_attn, h), feed_forward(layer.mlp, h)
        if once and index == 0:
            x, q, k, v, fed = (tokens[place] for tokens in (x, q, k, v, fed))
        k = rotate_(k, cos, sin)
        q = rotate_(q, cos[kept], sin[kept]) if index == last else rotate_(q, cos, sin)
        parts = []
        first = 0
        for prefix, rows in prefixes:
            part = slice(first, first + rows)
            all_k = torch.cat([prefix.keys[index].expand(rows, -1, -1, -1), k[part]], dim=1)
            all_v = torch.cat([prefix.values[index].expand(rows, -1, -1, -1), v[part]], dim=1)
            parts.append(_attend(q[part], all_k, all_v))
            first += rows
        attended = parts[0] if len(parts) == 1 else torch.cat(parts)
        x = x + layer.self_attn.dense(attended) + fed
    states: Tensor = model.showo.model.final_layernorm(x)
    return states


def rotary_table(model: Showo, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (L, 1, rotary_dim / 2) of the rotary embedding at positions (L,)."""
    config = model.config
    rotary_dim = int(config.hidden_size // config.num_attention_heads * config.partial_rotary_factor)
    exponent = torch.arange(0, rotary_dim, 2, device=positions.device).float() / rotary_dim
    angles = positions[:, None, None].float() / config.rope_theta**exponent
    return angles.cos().to(model.dtype), angles.sin().to(model.dtype)


def rotate_(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first channels of heads (B, L, heads, head_dim) by their positions, in place; the others stay."""
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    turned = (first * cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(turned)
    return x


def feed_forward(mlp: PhiMLP, h: Tensor) -> Tensor:
    """Return what `mlp` makes of h (B, L, D)."""
    # oneDNN applies the activation while a block of the product is in the cache; there is no gradient of it.
    first = mlp.fc1
    if type(first) is nn.Linear and h.device.type == "cpu" and h.dtype in _FUSED and not torch.is_grad_enabled():
        return mlp.fc2(torch.ops.mkldnn._linear_pointwise(h, first.weight, first.bias, "gelu", [], "tanh"))
    return mlp(h)


def _queries(attention: PhiAttention, h: Tensor) -> Tensor:
    """Return queries (..., heads, head_dim) of h (..., D), normalised and not rotated yet."""
    return attention.q_layernorm(attention.q_proj(h).unflatten(-1, (-1, attention.head_dim)))


def _keys_and_values(attention: PhiAttention, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys, normalised and not rotated yet, and values, both (..., heads, head_dim), of h (..., D)."""
    k, v = (layer(h).unflatten(-1, (-1, attention.head_dim)) for layer in (attention.k_proj, attention.v_proj))
    return attention.k_layernorm(k), v


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Return (B, L, D) from queries, keys and values (B, L, heads, head_dim); `allowed` as of omni-attention."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, allowed, is_causal=is_causal).transpose(1, 2).flatten(2)
