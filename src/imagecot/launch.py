"""How many processes share a work: those that a launcher started (`accelerate launch`, `torchrun`), or this one alone.

A launcher tells each process who it is by variables of the environment. Some of them are also left behind by others,
and a library that believes these waits for processes that will never come.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import peers
from imagecot.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

_TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MPI = tuple(
    f"{kind}_{what}"
    for kind in ("PMI", "OMPI_COMM_WORLD", "MV2_COMM_WORLD")
    for what in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
)
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets, all of it
_PLUGINS = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # of accelerate, as its variables call them
_WHOLE = ("NO", "MULTI_CPU", "MULTI_GPU")  # kinds of accelerate that training knows


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return which process of how many a launcher made this one; (0, 1) without. Errors as of `leftovers`."""
    if leftovers(environment):
        return 0, 1
    for rank, size in (("RANK", "WORLD_SIZE"), *zip(_MPI[::4], _MPI[1::4], strict=True)):
        if environment.get(rank) and environment.get(size):
            return int(environment[rank]), int(environment[size])
    return 0, 1


def expect(processes: int | None) -> None:
    """UsageError where the processes that a launcher started are not as many as were asked for.

    `accelerate launch` starts one where it was asked for several on CPUs, and says nothing.
    """
    told = "torchrun --nproc-per-node {} -m imagecot train RECIPE"
    found = launched()[1]
    if found > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # whoever is lost is told in a sentence, not in addresses
    if processes is not None and processes != found:
        raise UsageError(
            f"{processes} processes were asked for and {found} started; start them by {told.format(processes)}."
        )
    if found == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ and os.environ.get("MASTER_PORT"):
        raise UsageError(
            "accelerate launch was asked for several processes and started one, as it does on CPUs; start them by "
            f"{told.format('N')}, or unset MASTER_PORT."
        )
    for plugin in _PLUGINS:
        if os.environ.get(f"ACCELERATE_USE_{plugin}", "").lower() == "true":
            raise UsageError(
                f"ACCELERATE_USE_{plugin} is set, but weights are not shared by accelerate's plugins here; start by "
                f"{told.format('N')} and set shard=true in the recipe."
            )


def leftovers(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables that tell of several processes although no launcher has started this one.

    UsageError for one that is no number, and for numbers of a launcher that do not go together.
    """
    there = [name for name in (*_TOLD, *_MPI) if name in environment]
    numbers = {name: _number(name, environment[name]) for name in there if environment[name]}
    by_mpi = environment.get("MASTER_ADDR") and any(name in _MPI for name in there)
    if not by_mpi and not all(environment.get(name) for name in _NEEDED):
        return there
    port = _number("MASTER_PORT", environment.get("MASTER_PORT") or "1")
    if not numbers.get("RANK", 0) < numbers.get("WORLD_SIZE", 1) or not 0 < port < 65536:
        told = ", ".join(f"{name}={environment.get(name)}" for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        raise UsageError(f"{told} in the environment do not go together; unset them or use accelerate launch.")
    return []


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{name} is {text[:40]!r} in the environment, which is no number; unset it.")
    return int(text)


def forget_leftovers() -> None:
    """Take what is left behind out of the environment, so that libraries see one process; errors as of `leftovers`."""
    for name in leftovers():
        del os.environ[name]


def use_device(rank: int) -> None:
    """Let this process, one of several on this machine, use a GPU of its own as far as there are enough."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())


def _join(on_cpu: bool) -> "PartialState":
    """The processes of this work, all of which have come; errors as of `leftovers`, `expect` and `peers.join`."""
    import torch
    from accelerate import PartialState

    forget_leftovers()
    expect(None)
    rank, world = launched()
    on_cpu = on_cpu or not torch.cuda.is_available()
    peers.join(rank, world, on_cpu=on_cpu)
    state = PartialState(cpu=on_cpu)
    if on_cpu:
        state.device = torch.device("cpu")  # and not cpu:0, which files are not read to
    if state.distributed_type.value not in _WHOLE or state.num_processes != world:
        raise UsageError(
            f"{world} processes were started, of which accelerate knows {state.num_processes} "
            f"({state.distributed_type.value}); start them by torchrun."
        )
    return state


def processes(*, on_cpu: bool = False) -> "PartialState":
    """The processes of this work, for what one of them does before the others.

    UsageError where they are not as many as were started; ImagecotError where some do not come.
    """
    return _join(on_cpu)


def accelerator(
    precision: str,
    *,
    report_to: Sequence[str] = (),
    logs: Path | None = None,
    sends_buffers: bool = True,
    on_cpu: bool = False,
) -> "Accelerator":
    """What moves a training to its devices and processes; errors as of `processes`.

    precision      of the training, in the words of accelerate
    report_to      accelerate's names of trackers, which write under `logs`
    sends_buffers  whether all processes take the buffers of the first at each pass
    on_cpu         though there may be a GPU
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    _join(on_cpu)
    AcceleratorState._reset_state()  # a process may follow several trainings, each with a precision of its own
    return Accelerator(
        mixed_precision=precision,
        cpu=on_cpu or not torch.cuda.is_available(),
        log_with=list(report_to) or None,
        project_dir=logs,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=sends_buffers)],
    )
