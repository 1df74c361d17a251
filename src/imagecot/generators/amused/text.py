"""What aMUSEd reads of a prompt: CLIP's states of the last layer but one, and its pooled, projected vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from imagecot.errors import UsageError

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Texts:
    """What the U-ViT reads of K prompts.

    states  (K, L, D), padding included, as the model was trained
    pooled  (K, P)
    """

    states: Tensor
    pooled: Tensor

    def at(self, rows: Tensor) -> Self:
        """The prompts of numbers rows (R,)."""
        return type(self)(self.states[rows], self.pooled[rows])

    def followed_by(self, other: "Texts") -> Self:
        """These prompts, then the others."""
        return type(self)(torch.cat([self.states, other.states]), torch.cat([self.pooled, other.pooled]))


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """CLIP's text encoder with its tokenizer, which pads every prompt to `length` tokens, bos and eos included."""

    model: "CLIPTextModelWithProjection"
    tokenizer: "PreTrainedTokenizerBase"
    length: int

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError where the end of a prompt would not reach the model."""
        count = len(self.tokenizer(prompt).input_ids)
        if count > self.length:
            raise UsageError(
                f"the prompt has {count} tokens with its beginning and end but this generator reads at most "
                f"{self.length}; shorten it."
            )

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Texts:
        """Encode K prompts, each alone, so that its states are the same in any company."""
        ids = self.tokenizer(
            [*prompts], padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        ).input_ids.to(self.model.device)
        found = [self.model(row[None], output_hidden_states=True) for row in ids]
        return Texts(torch.cat([one.hidden_states[-2] for one in found]), torch.cat([one.text_embeds for one in found]))
