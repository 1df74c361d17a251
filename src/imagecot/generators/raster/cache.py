"""Keys and values of prompts and codes: what paths keep between steps, and the buffer in which a row is drawn.

A path keeps a tensor for each row of codes that was read: (branches, layers, 2, kv_heads, codes of it, head_dim), keys
before values. None is ever written to again, so older paths and forks share them. For a step the rows are laid side by
side, behind the prefix of each path's prompt, in a buffer with room for the codes of the step; it is given up at the
end of the step. Only paths that advance together have one at the same time (`Raster.paths_per_pass`).
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.generators.raster.transformer import CodeTransformer, Prefix

Rows = tuple[Tensor, ...]  # for each row of codes (B, branches, layers, 2, kv_heads, codes, head_dim)


class Buffer:
    """Keys and values of B paths in one batch: the conditional rows of all, then the unconditional ones.

    prefixes  for each prompt that of the prompt and, with guidance, that of what it goes against
    index     (B,) int64 on the CPU, whose prompt is whose
    rows      what the paths keep
    branches  1, or 2 with guidance
    room      how many codes will be read
    """

    def __init__(
        self,
        transformer: CodeTransformer,
        prefixes: Sequence[tuple[Prefix, ...]],
        index: Tensor,
        rows: Rows,
        branches: int,
        room: int,
    ) -> None:
        layers, heads, size = transformer.cache_shape
        self.branches, self.paths = branches, len(index)
        used = [prefixes[k] for k in index.unique().tolist()]
        self.before = max(one.keys.shape[2] for both in used for one in both[:branches])
        done = sum(row.shape[5] for row in rows)
        self.length = self.first = self.before + done
        shape = (layers, 2, branches, self.paths, heads, self.length + room, size)
        self._memory = torch.empty(shape, dtype=transformer.cache_dtype, device=transformer.device)
        self._gaps: list[int] = []  # for each row by how much its prefix is shorter than the longest
        self._alike: list[tuple[slice, int]] | None = None  # neighbours of one gap, as they are read
        self._bias = self._lay_prefixes(prefixes, index)
        self._made: Tensor | None = None  # the mask of the read in progress
        place = self.before
        for row in rows:
            self._memory[..., place : place + row.shape[5], :] = row[:, :branches].permute(2, 3, 1, 0, 4, 5, 6)
            place += row.shape[5]

    def _lay_prefixes(self, prefixes: Sequence[tuple[Prefix, ...]], index: Tensor) -> Tensor | None:
        """Lay the prefixes before the codes, at their right end; what is added to scores, None where nothing is."""
        bias = torch.zeros(self.branches, self.paths, self.before, device=self._memory.device)
        numbers, counts = (found.tolist() for found in index.unique_consecutive(return_counts=True))
        for branch in range(self.branches):
            first = 0
            for number, count in zip(numbers, counts, strict=True):
                whose, prefix = slice(first, first + count), prefixes[number][branch]
                first += count
                gap = self.before - prefix.keys.shape[2]
                place = self._memory[:, :, branch, whose, :, gap : self.before]
                place[:, 0] = prefix.keys[:, None]
                place[:, 1] = prefix.values[:, None]
                if prefix.bias is not None:
                    bias[branch, whose, gap:] = prefix.bias
                self._gaps += [gap] * count
        return bias if any(one.bias is not None for k in {*numbers} for one in prefixes[k]) else None

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Remember keys and values (R, n, kv_heads, head_dim) of n new codes, and return what they attend to.

        queries  (R, n, heads, head_dim); returns (R, n, heads * head_dim)

        Neighbours with prefixes of one length attend together. Masked padding would make it one call for all, but in
        half precision a path would then depend on the prompts beside it.
        """
        count = keys.shape[1]
        end = self.length + count
        memory = self._memory[layer].flatten(1, 2)  # (2, R, kv_heads, length, head_dim)
        memory[0, :, :, self.length : end] = keys.transpose(1, 2)
        memory[1, :, :, self.length : end] = values.transpose(1, 2)
        queries, mask = queries.transpose(1, 2), self._mask(count, queries.dtype)
        found = []
        for rows, gap in self._neighbours(len(keys)):
            attended = F.scaled_dot_product_attention(
                queries[rows],
                memory[0, rows, :, gap:end],
                memory[1, rows, :, gap:end],
                None if mask is None else mask[rows if len(mask) > 1 else slice(None), ..., gap:],
                enable_gqa=queries.shape[1] != keys.shape[2],
            )
            found.append(attended.transpose(1, 2).flatten(2))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _neighbours(self, rows: int) -> list[tuple[slice, int]]:
        """Which of the first rows stand side by side with prefixes of one length, and their gap."""
        if self._alike is None:
            self._alike, first = [], 0
            for gap, alike in groupby(self._gaps[:rows]):
                self._alike.append((slice(first, first + len([*alike])), gap))
                first = self._alike[-1][0].stop
        return self._alike

    def _mask(self, count: int, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores of `count` new codes, (R or 1, 1, count, length + count); made once a read."""
        if self._bias is None and count == 1:
            return None
        if self._made is None:
            end, device = self.length + count, self._memory.device
            behind = torch.ones(count, end, dtype=torch.bool, device=device).tril(end - count).logical_not()
            mask = torch.zeros(1, 1, count, end, device=device).masked_fill(behind, -torch.inf)
            if self._bias is not None:
                mask = mask + F.pad(self._bias.flatten(0, 1)[:, None, None], (0, end - self.before))
            self._made = mask.to(dtype)
        return self._made

    def grow(self, count: int) -> None:
        """Take the last `count` codes, which all layers have attended to, as read."""
        self.length, self._made = self.length + count, None

    def leave_guidance(self) -> None:
        """Give up the unconditional rows; between two reads."""
        self.branches, self._memory, self._alike = 1, self._memory[:, :, :1], None
        self._bias = None if self._bias is None else self._bias[:1]

    def read_since(self, branches: int, first: int = 0, end: int | None = None) -> Tensor:
        """What paths keep of the codes read into the buffer, or of those from the `first` to before the `end`."""
        stop = self.length if end is None else self.first + end
        return (
            self._memory[:, :, :branches, ..., self.first + first : stop, :].permute(3, 2, 0, 1, 4, 5, 6).contiguous()
        )
