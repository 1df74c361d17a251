"""The layers of a vision transformer as LLaVA-OneVision's and Janus' eyes have them, number by number."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.attention import attend


@dataclass(frozen=True)
class EyeSizes:
    """What an eye is built by: its channels, those between them, layers, heads, and pixels of image and patch.

    eps   of the normalisation
    gelu  how the activation is computed
    out   the name of the layer behind attention
    """

    width: int
    inner: int
    layers: int
    heads: int
    image: int
    patch: int
    eps: float
    gelu: Literal["none", "tanh"]
    out: str


class EyeAttention(nn.Module):
    """Attention in which all patches see each other."""

    def __init__(self, sizes: EyeSizes) -> None:
        super().__init__()
        self._per_head, self._out = sizes.width // sizes.heads, sizes.out
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(sizes.width, sizes.width) for _ in range(3))
        self.add_module(sizes.out, nn.Linear(sizes.width, sizes.width))

    def forward(self, h: Tensor) -> Tensor:
        """Map h (B, N, D) to (B, N, D)."""
        q, k, v = (
            layer(h).unflatten(-1, (-1, self._per_head)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        made: Tensor = self.get_submodule(self._out)(attend(q, k, v, None))
        return made


class EyeMlp(nn.Module):
    """Two layers."""

    def __init__(self, sizes: EyeSizes) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(sizes.width, sizes.inner), nn.Linear(sizes.inner, sizes.width)
        self._gelu = sizes.gelu

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to (B, N, D)."""
        made: Tensor = self.fc2(F.gelu(self.fc1(x), approximate=self._gelu))
        return made


class EyeLayer(nn.Module):
    """Attention and two layers, each normalised before and added."""

    def __init__(self, sizes: EyeSizes) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(sizes.width, eps=sizes.eps) for _ in range(2))
        self.self_attn, self.mlp = EyeAttention(sizes), EyeMlp(sizes)

    def forward(self, x: Tensor, mask: None = None) -> Tensor:
        """Map x (B, N, D) to (B, N, D); there is no mask."""
        x = x + self.self_attn(self.layer_norm1(x))
        made: Tensor = x + self.mlp(self.layer_norm2(x))
        return made


class Patches(nn.Module):
    """Patches of an image with their places."""

    def __init__(self, sizes: EyeSizes) -> None:
        super().__init__()
        self.image_size, self.num_patches = sizes.image, (sizes.image // sizes.patch) ** 2
        self.patch_embedding = nn.Conv2d(3, sizes.width, kernel_size=sizes.patch, stride=sizes.patch)
        self.position_embedding = nn.Embedding(self.num_patches, sizes.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 3, S, S) to patches (B, N, D)."""
        seen = self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype))
        return seen.flatten(2).transpose(1, 2) + self.position_embedding.weight[None]


class _Encoder(nn.Module):
    def __init__(self, sizes: EyeSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList([EyeLayer(sizes) for _ in range(sizes.layers)])


class Eye(nn.Module):
    """A vision transformer."""

    def __init__(self, sizes: EyeSizes) -> None:
        super().__init__()
        self.embeddings, self.encoder = Patches(sizes), _Encoder(sizes)
        self.post_layernorm = nn.LayerNorm(sizes.width, eps=sizes.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 3, S, S) to features (B, N, D)."""
        h = self.embeddings(pixels)
        for layer in self.encoder.layers:
            h = layer(h)
        features: Tensor = self.post_layernorm(h)
        return features
