"""Weights in shares: FSDP2 of torch (`fully_shard`), for models whose training does not fit one card.

Each process keeps an equal share of every weight, its gradient and its optimizer state. A block of layers is put
together when it computes and taken apart behind it, and so is what stands outside of blocks, such as embeddings.
Weights, gradients and moments are float32. In `precision: bf16` weights are put together in bfloat16 and computed with
under autocast, and gradients are added up in float32.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


class Forward(nn.Module):
    """What accelerate and FSDP2 wrap: what is computed with the weights `model` goes through `forward`.

    owner  computes with these weights; it may be a module itself
    """

    def __init__(self, owner: object, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.owner = (owner,)  # a tuple: an owner that is a module itself has its weights in `model`

    def forward(self, compute: Callable[[Any], object]) -> object:
        """What `compute` finds by the owner."""
        return compute(self.owner[0])


def prepared(accelerator: "Accelerator", module: Forward, *, shard: bool, in_blocks: bool = True) -> nn.Module:
    """The module as processes share its work: whole weights in each (DDP), or with `shard` a share in each (FSDP2).

    in_blocks  whether what computes a loss calls the blocks of layers as modules, so that they can be put together
               one by one; else all weights are at once
    """
    if not shard or accelerator.num_processes == 1:
        frozen = not any(parameter.requires_grad for parameter in module.parameters())
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "`broadcast_buffers`", FutureWarning
            )  # of torch, about accelerate's words
            whole: nn.Module = accelerator.prepare_model(module, evaluation_mode=frozen)
        return whole
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    half = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if half else None)
    for block in _blocks(module) if in_blocks else []:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # Taken apart behind every forward pass, the root too: one without gradient would leave it as it was before a step.
    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    # Autocast, and no wrapping: `evaluation_mode` means that alone.
    shared: nn.Module = accelerator.prepare_model(module, device_placement=False, evaluation_mode=True)
    return shared


def _blocks(module: nn.Module) -> list[nn.Module]:
    """The modules of all lists of alike ones, the outer before the inner, no one inside another."""
    found: list[nn.Module] = []
    covered: set[int] = set()
    for part in module.modules():
        if not isinstance(part, nn.ModuleList) or len({type(one) for one in part}) != 1 or id(part) in covered:
            continue
        # A lone linear layer is no block: putting it together costs more than it saves.
        blocks = [one for one in part if any(True for _ in one.children()) and any(True for _ in one.parameters())]
        found += blocks
        covered |= {id(inner) for one in blocks for inner in one.modules()}
    return found


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Put all weights together inside, for what is no loss; processes enter and leave together, and are free inside."""
    from torch.distributed.fsdp import FSDPModule

    shared = [part for part in module.modules() if isinstance(part, FSDPModule)]
    if not shared:
        yield
        return
    with torch.no_grad():
        module(lambda _: None)  # what is called first is the root of all others
    for part in shared:
        part.set_reshard_after_forward(False)
        part.unshard()
    try:
        yield
    finally:
        for part in shared:
            part.reshard()
            part.set_reshard_after_forward(True)


def is_shared(module: nn.Module) -> bool:
    """Whether processes hold shares of the weights."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full(tensor: Tensor) -> Tensor:
    """A tensor as a whole, on the CPU; of shares, to be asked for by all processes together."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def shared_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is: the own share where that is one."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def moving(module: nn.Module) -> dict[str, Tensor]:
    """What changes of a module: weights that require gradients, and buffers that a checkpoint keeps."""
    kept = module.state_dict(keep_vars=True)
    shown = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return shown | {name: value for name, value in kept.items() if not isinstance(value, nn.Parameter)}


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """`moving` as whole tensors on the CPU, by all processes together; a process at a time keeps but one."""
    return {name: full(tensor) for name, tensor in moving(module).items()}


def take(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Let a whole module have `whole_weights` of one of its kind."""
    foreign = module.load_state_dict(weights, strict=False).unexpected_keys
    assert not foreign, foreign
