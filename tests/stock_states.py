"""States and caches of a model that is computed here beside those of transformers' own class."""

import torch
from transformers import DynamicCache

from imagecot.generators.attention import KeysAndValues


@torch.no_grad()
def same_states(own: torch.nn.Module, stock: torch.nn.Module, padded: bool, dtype: torch.dtype) -> None:
    """Three prompts of 20 states, padded on the left or not, then four more states, then one: equal to the bit."""
    mine, theirs, mask = KeysAndValues(), DynamicCache(), torch.arange(20) >= torch.tensor([[0], [3], [5]])
    mask = mask if padded else torch.ones_like(mask)
    embeds = torch.randn(3, 25, 192, generator=torch.Generator().manual_seed(2)).to(dtype)
    for first, end in ((0, 20), (20, 24), (24, 25)):
        mask = torch.cat([mask, torch.ones(3, end - mask.shape[1], dtype=torch.bool)], 1)
        asked = {
            "inputs_embeds": embeds[:, first:end],
            "position_ids": (mask.cumsum(1) - 1).clamp_min(0)[:, first - end :],
            "attention_mask": mask.long() if padded else None,
            "use_cache": True,
        }
        found, expected = (
            model.model.language_model(cache=cache, **asked).last_hidden_state
            for model, cache in ((own, mine), (stock, theirs))
        )
        assert torch.equal(found[mask[:, first:end]], expected[mask[:, first:end]])
