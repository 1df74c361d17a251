"""A device that no machine lacks: its tensors are computed on the CPU, but the host may not look at them.

`with apart():` refuses what would make the host wait for a GPU: reading a number or a shape out of a tensor (`item`,
`nonzero`, `unique`, a boolean index), a copy to the host, a copy from it that is not asynchronous, and tensors of two
devices in one operation. So what is computed there without an error is computed on a GPU without a stop.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_setup_privateuseone_for_python_backend(NAME)
# Whoever computes activations again asks for it, in every test of the same process.
torch.elsewhere.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
DEVICE = torch.device(NAME, 0)

# Their results depend on numbers that only the device knows.
_LOOKS = {
    *("_local_scalar_dense", "nonzero", "nonzero_static", "masked_select", "_unique", "_unique2", "unique_dim"),
    *("unique_consecutive", "unique_dim_consecutive", "equal", "is_nonzero", "bincount", "histc", "argwhere"),
}
_watched: list[bool] = []  # of each `apart` in force whether copies to the host are allowed, innermost last
copies: list[tuple[int, ...]] = []  # shapes of what was copied to the host where that was allowed


class Stops(RuntimeError):
    """What was asked for makes the host wait for the device."""


class Away(Tensor):
    """A tensor of DEVICE; its numbers are in `here`."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Away":
        made: Away = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            layout=here.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.here = here
        return made

    def __repr__(self, **_: object) -> str:
        return f"Away({self.here!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Compute it on the CPU, where it may be computed."""
        return _computed(func, args, kwargs or {})


def _computed(func, args, kwargs):
    name = func.overloadpacket.__name__
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    away = [one for one in given if isinstance(one, Away)]
    to = kwargs.get("device")
    target = torch.device(to) if to is not None else None
    if name in ("_to_copy", "copy_"):
        return _copied(func, args, kwargs, target)
    if _watched:
        if away and name in _LOOKS:
            raise Stops(f"aten::{name} of tensors of {[tuple(one.shape) for one in away]}")
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    raise Stops(f"aten::{name} by a mask of shape {tuple(index.shape)}")
        if name == "repeat_interleave" and kwargs.get("output_size") is None and isinstance(args[-1], Tensor):
            raise Stops("aten::repeat_interleave by counts")
    if away and any(one.ndim for one in given if not isinstance(one, Away)):
        raise Stops(f"aten::{name} of tensors of two devices")
    if target is not None and target.type == NAME:
        kwargs = {**kwargs, "device": "cpu"}
        away = [*away, None]
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not away:
        return found
    # What was changed in place is what was given.
    known = {id(one.here): one for one in given if isinstance(one, Away)}
    return tree_map(lambda one: known.get(id(one), Away(one)) if isinstance(one, Tensor) else one, found)


def _copied(func, args, kwargs, target):
    """A copy within the device, to it, or to the host."""
    watched = bool(_watched)
    if func.overloadpacket.__name__ == "copy_":
        to, source = args[:2]
        if watched and isinstance(to, Away) != isinstance(source, Away) and source.ndim:
            raise Stops(f"aten::copy_ of {tuple(source.shape)} between devices")
        _here(to).copy_(_here(source))
        return to
    source = args[0]
    target = source.device if target is None else target
    if watched and isinstance(source, Away) and target.type == "cpu":
        if not _watched[-1]:
            raise Stops(f"a copy of {tuple(source.shape)} to the host")
        copies.append(tuple(source.shape))
    if watched and not isinstance(source, Away) and target.type == NAME and not kwargs.get("non_blocking"):
        raise Stops(f"a copy of {tuple(source.shape)} from the host that is waited for")
    found = func(_here(source), **{**kwargs, "device": "cpu"})
    if found is _here(source):
        found = found.clone()
    return Away(found) if target.type == NAME else found


def _here(one):
    return one.here if isinstance(one, Away) else one


class _Factories(TorchDispatchMode):
    """Makes tensors of the device where they are asked for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


class _Whole(TorchFunctionMode):
    """What does not come to the operations of a device: numbers of Python, and attention, which is one kernel here."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
        if func is Tensor.tolist and given:
            return args[0].to("cpu").tolist()
        # What torch does with numbers of Python, it does where no mode sees it.
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is Tensor.new_tensor and isinstance(args[0], Away):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Away):
            at = args[1] if isinstance(args[1], tuple) else (args[1],)
            lists = [torch.tensor(one).to(DEVICE) if isinstance(one, list) else one for one in at]
            args = (args[0], tuple(lists), *args[2:])
        if func is F.scaled_dot_product_attention and any(isinstance(one, Away) for one in given):
            if not all(isinstance(one, Away) for one in given):
                raise Stops("attention of tensors of two devices")
            return Away(func(*tree_map(_here, args), **tree_map(_here, kwargs)))
        return func(*args, **kwargs)


@contextmanager
def there() -> Iterator[None]:
    """Let tensors be made on the device; the host may look."""
    with _Whole(), _Factories():
        yield


@contextmanager
def apart(*, copies_allowed: bool = False) -> Iterator[None]:
    """Raise Stops where the host would wait for the device; `copies` says what was copied where that is allowed."""
    copies.clear()
    _watched.append(copies_allowed)
    try:
        yield
    finally:
        _watched.pop()


def moved(module: nn.Module) -> nn.Module:
    """The module with its weights and buffers on the device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and not isinstance(parameter, Away):
                part._parameters[name] = nn.Parameter(Away(parameter.data), requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and not isinstance(buffer, Away):
                part._buffers[name] = Away(buffer)
    return module
