"""Training of Show-o with what codes of lookup-free quantization have in common."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.generators.showo.model import Showo


class SharedBits(nn.Module):
    """A generator whose rows of codes are sums of a part per code and a part per bit of the code.

    Two codes of lookup-free quantization that differ in a bit look alike, which a table of 2^bits free rows has to
    learn code by code. The parts per bit are trained beside the table and added to it by `folded`, so what is saved is
    a plain Show-o.
    """

    def __init__(self, model: Showo, entries: Tensor) -> None:
        """Share the bits `entries` (C, bits), -1 or +1, between the code rows of `model`."""
        super().__init__()
        self.model = model
        width, first = model.config.hidden_size, model.config.code_offset
        self.embedding = nn.Parameter(torch.randn(entries.shape[1], width) * 0.02)
        self.head = nn.Parameter(torch.zeros(entries.shape[1], width))
        table = torch.zeros(model.config.vocab_size, entries.shape[1])
        table[first : first + len(entries)] = entries
        self.bits: Tensor
        self.register_buffer("bits", table, persistent=False)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (B, L, D) of ids (B, L)."""
        return self.model.showo.model.embed_tokens(ids) + F.embedding(ids, self.bits) @ self.embedding

    def code_logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., C) of the codes for hidden states (..., D)."""
        config = self.model.config
        entries = self.bits[config.code_offset : config.code_offset + config.codebook_size]
        return self.model.code_logits(hidden) + F.linear(F.linear(hidden, self.head), entries)

    @torch.no_grad()
    def folded(self) -> Showo:
        """A copy of the generator with the parts per bit added to its rows."""
        model = copy.deepcopy(self.model)
        model.showo.model.embed_tokens.weight += self.bits @ self.embedding
        model.showo.lm_head.weight += self.bits @ self.head
        return model.eval()
