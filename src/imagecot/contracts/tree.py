"""What belongs to each of B rows: a tensor with leading dimension B, or any nesting of such tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from imagecot.contracts.devices import sent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Tree: TypeAlias = "Tensor | Mapping[str, Tree] | Sequence[Tree] | DataclassInstance | None"
"""A tensor, None, or dictionaries, lists, tuples, named tuples and dataclasses of such."""


def mapped(tree: Tree, function: Callable[[Tensor], Tensor]) -> Tree:
    """The same nesting with `function` of every tensor in it.

    TypeError for what is none, which could not be gathered.
    """
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {name: mapped(part, function) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = tuple(mapped(part, function) for part in tree)
        named: Callable[..., Tree] = type(tree)
        return named(*parts) if hasattr(tree, "_fields") else parts
    if isinstance(tree, list):
        return [mapped(part, function) for part in tree]
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{entry.name: mapped(getattr(tree, entry.name), function) for entry in fields(tree)})
    raise TypeError(
        f"what belongs to each path must be made of tensors, not of {type(tree).__name__}; what all share belongs in "
        "`shared`"
    )


def gathered(tree: Tree, indices: Tensor | list[int]) -> Tree:
    """The rows at `indices` (int64 or a bool mask) of every tensor in a nesting; the tensors may be on several devices.

    Indices in a list are sent to a device once, and nobody waits for it.
    """
    rows = torch.as_tensor(indices)
    rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows.long()
    there: dict[torch.device, Tensor] = {}

    def take(tensor: Tensor) -> Tensor:
        if tensor.device not in there:
            there[tensor.device] = sent(rows, tensor.device)
        return tensor[there[tensor.device]]

    return mapped(tree, take)


def check_rows(tree: Tree, rows: int) -> None:
    """ValueError where a tensor of a nesting has not `rows` rows, TypeError for what is no such nesting."""
    for tensor in leaves(tree):
        if tensor.ndim == 0 or len(tensor) != rows:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} does not belong to {rows} paths")


def leaves(tree: Tree) -> Iterator[Tensor]:
    """All tensors of a nesting."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(tree, keep)
    return iter(found)
