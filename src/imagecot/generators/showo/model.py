"""Show-o: one Phi transformer over text ids and image codes, with omni-attention (Xie et al., 2024).

The backbone is Phi, as transformers computes it (`phi.py`). State-dict names are those of `showlab/show-o`.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.showo.config import ShowoConfig
from imagecot.generators.showo.phi import PhiForCausalLM, rotary
from imagecot.weights import load_whole, save_checkpoint


class Showo(nn.Module):
    """The backbone under the name `showo`, with the optional projector of CLIP features beside it."""

    def __init__(self, config: ShowoConfig) -> None:
        super().__init__()
        self.config = config
        self.showo = PhiForCausalLM(config)
        if config.w_clip_vit:
            self.mm_projector = nn.Sequential(
                nn.Linear(config.clip_hidden_size, config.hidden_size),
                nn.GELU(),
                nn.Linear(config.hidden_size, config.hidden_size),
            )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.showo.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.showo.lm_head.weight.dtype

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Run the trunk: ids (B, L) and the full boolean mask (B, 1, L, L) to normalised states (B, L, D)."""
        states: Tensor = self.showo.model(input_ids, attention_mask, position_ids)
        return states

    def forward_logits(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Return float32 logits (B, L, vocab_size) of ids (B, L) under the full boolean mask (B, 1, L, L)."""
        return self.showo.lm_head(self.hidden_states(input_ids, attention_mask, position_ids)).float()

    forward = forward_logits

    def code_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., codebook_size) of the image codes alone for hidden states (..., D)."""
        rows = slice(self.config.code_offset, self.config.code_offset + self.config.codebook_size)
        head = self.showo.lm_head
        return F.linear(hidden, head.weight[rows], head.bias[rows])

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load `config.json` and weights of a checkpoint folder; ImagecotError where they do not fit.

        By default the weights keep their stored type and stay on the CPU.
        """
        model = load_whole(lambda: cls(ShowoConfig.from_pretrained(folder)), folder, device, dtype)
        # The rotary table is no part of a checkpoint, so it is still on the meta device.
        model.showo.model.rotary_emb = rotary(model.config).to(device)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        save_checkpoint(folder, self.config.to_dict(), self.state_dict())


def omni_attention_mask(input_ids: Tensor, pad_id: int, soi_id: int, eoi_id: int) -> Tensor:
    """Return the boolean mask (B, 1, L, L) of drawing, true where a query row attends to a key column.

    Text is causal; the tokens of an image, from soi to eoi, also attend to each other in both directions;
    nothing but padding attends to padding, which stays causal so that no row is empty.
    """
    position = torch.arange(input_ids.shape[1], device=input_ids.device)
    causal = position[:, None] >= position
    opened, closed = (input_ids == soi_id).cumsum(1), (input_ids == eoi_id).cumsum(1)
    image = torch.where((opened > closed) | (input_ids == eoi_id), opened, 0)
    same_image = (image[:, :, None] == image[:, None, :]) & (image > 0)[:, :, None]
    pad = input_ids == pad_id
    allowed = (causal | same_image) & ~(pad[:, None, :] & ~pad[:, :, None])
    return allowed[:, None]


def understanding_attention_mask(input_ids: Tensor, eoi_id: int) -> Tensor:
    """Return the boolean mask (B, 1, L, L) of describing: all see the image up to eoi; text is causal."""
    position = torch.arange(input_ids.shape[1], device=input_ids.device)
    causal = position[:, None] >= position
    end = (input_ids == eoi_id).int().argmax(1)
    return (causal | (position <= end[:, None])[:, None, :])[:, None]
