"""The processes of one training: how they find each other, wait for one of them, and say that one is lost.

All of it is bounded in time. Where a process waits, it is told in a sentence what it has waited for.

COMING  seconds until all have come, from the start of the first
APART   seconds that one may do something by itself, such as write a checkpoint, before the others give it up
QUIET   seconds without a sign of life of the main process, while the others let it work first, however long that takes
"""

import atexit
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from imagecot import interruption
from imagecot.errors import ImagecotError, first_line

if TYPE_CHECKING:
    from torch.distributed import Store

COMING, APART, QUIET = 120.0, 600.0, 60.0
_BEAT = 5.0  # seconds between signs of life
_LOOK = 0.2  # seconds between two looks at what the main process has done
_OF_PEERS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "socket timeout")
_turns = itertools.count()  # a number for each wait, the same in all processes

Item = TypeVar("Item")
Found = TypeVar("Found")


def rank_and_world() -> tuple[int, int]:
    """Which process of how many this one is."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def join(rank: int, world: int, *, on_cpu: bool) -> None:
    """Make this process one of `world`; ImagecotError where the others do not come within `COMING` seconds."""
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    if world == 1 or dist.is_initialized():
        return
    patience = timedelta(seconds=COMING)
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, world, timeout=patience)))
        store.set(f"imagecot/came/{rank}", "")
        store.wait([f"imagecot/came/{k}" for k in range(world)], patience)
        dist.init_process_group(
            "gloo" if on_cpu else "cpu:gloo,cuda:nccl",
            store=dist.PrefixStore("imagecot/group", store),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=APART),
        )
        atexit.register(_leave)
    except (RuntimeError, ValueError, OSError) as error:
        interruption.check()
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise ImagecotError(
            f"process {rank} of {world} waited {COMING:g} seconds at {place} for the others, who did not come; start "
            f"{world}, or unset WORLD_SIZE ({first_line(error)})."
        ) from error


def _leave() -> None:
    import torch.distributed as dist

    with suppress(Exception):  # the others may be gone
        dist.destroy_process_group()


@contextmanager
def telling_losses() -> Iterator[None]:
    """Say in a sentence where a process inside has lost the others."""
    try:
        yield
    except ImagecotError:
        raise
    except Exception as error:
        rank, world = rank_and_world()
        if world == 1 or not _is_of_peers(error):
            raise
        interruption.check()
        raise ImagecotError(
            f"process {rank} of {world} has lost another one, which ended or was silent for {APART:g} seconds; the "
            "same command goes on from the last state, with as many processes as there are."
        ) from error


def _is_of_peers(error: Exception) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _OF_PEERS)


@contextmanager
def first() -> Iterator[None]:
    """Let the main process do what is inside before the others do it, however long it takes, as long as it lives.

    ImagecotError in the others where the main process failed, or gave no sign of life for `QUIET` seconds.
    """
    rank, world = rank_and_world()
    if world == 1:
        yield
        return
    from torch.distributed.distributed_c10d import _get_default_store

    store, turn = _get_default_store(), f"imagecot/turn/{next(_turns)}"
    if rank:
        _wait(store, turn, rank)
        yield
        return
    with _living(store, f"{turn}/alive"):
        try:
            yield
        except BaseException:
            store.set(turn, "failed")
            raise
        store.set(turn, "done")
    _see_off(store, turn, world)


def _see_off(store: "Store", turn: str, world: int) -> None:
    """Wait until the others have seen that it is their turn, as they look at what ends with the main process."""
    try:
        store.wait([f"{turn}/{rank}" for rank in range(1, world)], timedelta(seconds=APART))
    except RuntimeError:
        raise ImagecotError(f"the {world - 1} other processes are lost, or silent for {APART:g} seconds.") from None


def _wait(store: "Store", turn: str, rank: int) -> None:
    seen, since = b"", time.monotonic()
    alive = f"{turn}/alive"
    while True:
        try:
            if store.check([turn]):
                break
            sign = store.get(alive) if store.check([alive]) else b""
        except RuntimeError:
            raise ImagecotError(f"process {rank} has lost process 0, which was to work first; start again.") from None
        if sign != seen:
            seen, since = sign, time.monotonic()
        limit = QUIET if seen else APART
        if time.monotonic() - since > limit:
            raise ImagecotError(
                f"process 0, for which process {rank} waits, gave no sign of life for {limit:g} seconds."
            )
        time.sleep(_LOOK)
        interruption.check()
    how = store.get(turn)
    store.set(f"{turn}/{rank}", "")
    if how != b"done":
        raise ImagecotError(f"process {rank} ends because process 0, which works first, failed.")


@contextmanager
def _living(store: "Store", key: str) -> Iterator[None]:
    """Give signs of life inside."""
    done = threading.Event()

    def beat() -> None:
        for number in itertools.count():
            try:
                store.set(key, str(number))
            except RuntimeError:  # nobody is left to be told
                return
            if done.wait(_BEAT):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def said_by_main(value: Item) -> Item:
    """What the main process holds for `value`, in all."""
    import torch.distributed as dist

    if rank_and_world()[1] == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def spread(items: Sequence[Item], compute: Callable[[Item], Found]) -> list[Found]:
    """What `compute` finds for every item, in order and in all processes, which share the items.

    All of them compute equally often, so that `compute` may use weights that they hold together.
    """
    rank, world = rank_and_world()
    if world == 1:
        return [compute(item) for item in items]
    import torch.distributed as dist

    rounds = -(-len(items) // world)
    own = [compute(items[min(k * world + rank, len(items) - 1)]) for k in range(rounds)]
    found: list[list[Found]] = [own] * world
    dist.all_gather_object(found, own)
    return [found[k % world][k // world] for k in range(len(items))]
