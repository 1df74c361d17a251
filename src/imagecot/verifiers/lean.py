"""LLaVA-OneVision to be asked: SigLIP, a projector and Qwen2, number by number as transformers computes them.

The class of transformers takes seconds to import, and is what fine-tuning trains. `read` makes this one of checkpoints
that are built as the shipped ones are; of any other, and of what does not fit, it says nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.generators.attention import KeysAndValues, Rotary, attend, rotated
from imagecot.reading import Foreign
from imagecot.weights import NoInitialWeights, load_state_dict, misfits

Size = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Eps = Annotated[float, Field(gt=0, le=0.1)]
WEIGHTS = "model.safetensors"
# What begins the names of tensors in a file, and in a model.
_PREFIXES = {"language_model.model.": "model.language_model.", "language_model.lm_head.": "lm_head."}
_PARTS = ("vision_tower.", "multi_modal_projector.", "image_newline")


class _Rope(Foreign):
    rope_type: Literal["default"]
    rope_theta: Annotated[float, Field(ge=1, le=1e12)]


class TextConfig(Foreign):
    """What of a Qwen2's sizes is used here."""

    model_type: Literal["qwen2"]
    hidden_act: Literal["silu"]
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    vocab_size: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
    max_position_embeddings: Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
    rms_norm_eps: Eps
    rope_parameters: _Rope
    use_sliding_window: Literal[False]
    head_dim: None = None
    pad_token_id: int | None = None


class VisionConfig(Foreign):
    """What of a SigLIP's sizes is used here."""

    model_type: Literal["siglip_vision_model"]
    hidden_act: Literal["gelu_pytorch_tanh"]
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_channels: Literal[3]
    image_size: Size
    patch_size: Size
    layer_norm_eps: Eps
    vision_use_head: Literal[False]


class LeanConfig(Foreign):
    """A config.json of which `Lean` is the model."""

    model_type: Literal["llava_onevision"]
    text_config: TextConfig
    vision_config: VisionConfig
    image_token_index: Annotated[int, Field(ge=0, strict=True)]
    vision_feature_layer: Annotated[int, Field(strict=True)]
    projector_hidden_act: Literal["gelu"]
    multimodal_projector_bias: Literal[True]
    tie_word_embeddings: Literal[True]

    @property
    def fits(self) -> bool:
        """Whether the sizes go together, and heads of keys are as many as those of queries."""
        text, eye = self.text_config, self.vision_config
        whole = text.hidden_size % (2 * text.num_attention_heads) == 0 == eye.hidden_size % eye.num_attention_heads
        return whole and text.num_key_value_heads == text.num_attention_heads and eye.image_size >= eye.patch_size


class States(NamedTuple):
    """What the language model returns."""

    last_hidden_state: Tensor


class _Attention(nn.Module):
    """Attention of `heads` heads; the eye calls its last layer `out_proj` and sees all, the text `o_proj`."""

    def __init__(self, size: int, heads: int, eye: bool) -> None:
        super().__init__()
        self._width = size // heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(size, size) for _ in range(3))
        if eye:
            self.out_proj = nn.Linear(size, size)
        else:
            self.o_proj = nn.Linear(size, size, bias=False)

    def heads(self, layer: nn.Module, h: Tensor) -> Tensor:
        """What one of the layers makes of h (B, L, D): queries, keys or values (B, heads, L, width)."""
        split: Tensor = layer(h).unflatten(-1, (-1, self._width)).transpose(1, 2)
        return split


class _EyeLayer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(size, eps=eps), nn.LayerNorm(size, eps=eps)
        self.self_attn = _Attention(size, config.num_attention_heads, eye=True)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(size, inner), "fc2": nn.Linear(inner, size)})

    def forward(self, x: Tensor, mask: None = None) -> Tensor:
        """Map x (B, N, D) to (B, N, D); all patches see each other."""
        attention, h = self.self_attn, self.layer_norm1(x)
        q, k, v = (attention.heads(layer, h) for layer in (attention.q_proj, attention.k_proj, attention.v_proj))
        x = x + attention.out_proj(attend(q, k, v, None))
        inner = F.gelu(self.mlp["fc1"](self.layer_norm2(x)), approximate="tanh")
        return x + self.mlp["fc2"](inner)


class _Patches(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size, patch = config.hidden_size, config.patch_size
        self.patch_embedding = nn.Conv2d(3, size, kernel_size=patch, stride=patch)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2, size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 3, S, S) to patches (B, N, D)."""
        seen = self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype))
        return seen.flatten(2).transpose(1, 2) + self.position_embedding.weight[None]


class _Encoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_EyeLayer(config) for _ in range(config.num_hidden_layers)])


class _Eye(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = _Patches(config)
        self.encoder = _Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self._eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Divide x (..., D) by its root mean square, in float32."""
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return self.weight * wide.to(x.dtype)


class _TextLayer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        size, inner, eps = config.hidden_size, config.intermediate_size, config.rms_norm_eps
        self.self_attn = _Attention(size, config.num_attention_heads, eye=False)
        wide = {name: nn.Linear(size, inner, bias=False) for name in ("gate_proj", "up_proj")}
        self.mlp = nn.ModuleDict({**wide, "down_proj": nn.Linear(inner, size, bias=False)})
        self.input_layernorm, self.post_attention_layernorm = _Norm(size, eps), _Norm(size, eps)

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
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))


class _Language(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([_TextLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = _Norm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = _rotary(config)

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: KeysAndValues | None = None,
        use_cache: bool = False,
        last: bool = False,
    ) -> States:
        """Read embeds (B, n, D) at positions (B, n) behind a cache.

        attention_mask  (B, K), 0 where a key of cache and embeds is padding; None where none is
        use_cache       says nothing: what is read joins the cache that is given
        last            whether the state of the last position alone is wanted: (B, 1, D)
        """
        n = inputs_embeds.shape[1]
        before = next((keys.shape[2] for keys, _ in cache), 0) if cache is not None else 0
        mask = None
        if attention_mask is not None or (before and n > 1):
            place = torch.arange(before + n, device=inputs_embeds.device)
            mask = (place <= place[before:, None])[None, None]
            if attention_mask is not None:
                mask = mask & attention_mask.bool()[:, None, None]
            mask = mask.expand(len(inputs_embeds), -1, -1, -1)
        x, turn = inputs_embeds, self.rotary_emb(position_ids, inputs_embeds.dtype)
        for number, layer in enumerate(self.layers):
            wanted = slice(-1, None) if last and number == len(self.layers) - 1 else slice(None)
            x = layer(x, turn, mask, cache, number, wanted)
        return States(self.norm(x))


class _Projector(nn.Module):
    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        size = config.text_config.hidden_size
        self.linear_1, self.linear_2 = nn.Linear(config.vision_config.hidden_size, size), nn.Linear(size, size)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, N, E) to rows (B, N, D)."""
        rows: Tensor = self.linear_2(F.gelu(self.linear_1(features)))
        return rows


class _Core(nn.Module):
    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        self.config = config
        self.image_newline = nn.Parameter(torch.empty(config.text_config.hidden_size))
        self.vision_tower = _Eye(config.vision_config)
        self.multi_modal_projector = _Projector(config)
        self.language_model = _Language(config.text_config)


class Lean(nn.Module):
    """A LLaVA-OneVision, of which the parts are called: names of parts and tensors are those of transformers.

    values  what its config.json says
    """

    def __init__(self, config: LeanConfig, values: Mapping[str, JSON]) -> None:
        super().__init__()
        text = config.text_config
        self.config, self.values = config, values
        self.model = _Core(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.lm_head.weight = self.model.language_model.embed_tokens.weight

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.lm_head.weight.dtype


def _renamed(name: str) -> str:
    for old, new in _PREFIXES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return f"model.{name}" if name.startswith(_PARTS) else name


def read(
    folder: Path, values: Mapping[str, JSON], dtype: torch.dtype, device: torch.device | None = None
) -> Lean | None:
    """The model of a checkpoint folder on a device (the CPU), its weights in a type; `values` are its config.json.

    None where it is another model, its weights are not one file, or they do not fit or cannot be read: what is wrong
    says transformers.
    """
    try:
        config = LeanConfig.model_validate(values)
    except ValidationError:
        return None
    others = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin") or not file.is_file()]
    if not config.fits or [file.name for file in others] != [WEIGHTS]:
        return None
    with torch.device("meta"), NoInitialWeights():
        model = Lean(config, values)
    embedded = "model.language_model.embed_tokens.weight"
    try:
        loaded = load_state_dict(folder / WEIGHTS, device, dtype)
    except ImagecotError:
        return None
    tensors = {_renamed(name): tensor for name, tensor in loaded.items()}
    if len(tensors) < len(loaded) or "lm_head.weight" in tensors or embedded not in tensors:
        return None
    tensors["lm_head.weight"] = tensors[embedded]
    if misfits(model.state_dict(), tensors):
        return None
    model.load_state_dict(tensors, assign=True)
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    model.model.language_model.rotary_emb = _rotary(config.text_config).to(device)
    return model.eval()


def _rotary(config: TextConfig) -> Rotary:
    return Rotary(config.hidden_size // config.num_attention_heads, config.rope_parameters.rope_theta)
