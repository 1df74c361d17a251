"""Sharing work among processes on one machine, which end when the one that started them ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from imagecot import interruption, last_resort
from imagecot.errors import ImagecotError, UsageError

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # a launcher sets all of them
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return which process of how many a launcher (`accelerate launch`, `torchrun`) made this one; (0, 1) without.

    Some of a launcher's variables are left in an environment by others, so only all of them count. UsageError for
    one that holds no number, and for numbers that do not go together.
    """
    found = {name: environment[name] for name in _NUMBERS if environment.get(name)}
    for name, text in found.items():
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise UsageError(f"{name} is {text[:40]!r} in the environment, which is no number; unset it.")
    if not all(environment.get(name) for name in _LAUNCHED):
        return 0, 1
    rank, world = int(found["RANK"]), int(found["WORLD_SIZE"])
    if rank >= world:
        raise UsageError(f"RANK={rank} and WORLD_SIZE={world} in the environment do not go together; unset them.")
    return rank, world


def left_behind(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables that tell of several processes although no launcher started this one."""
    if all(environment.get(name) for name in _LAUNCHED):
        return []
    return [name for name in ("RANK", "WORLD_SIZE") if environment.get(name)]


def share(work: Callable[..., None], arguments: tuple[Any, ...], workers: int, watch: Callable[[], object]) -> None:
    """Call `work(*arguments, rank, workers)` in each of so many new processes, and `watch` twice a second meanwhile.

    The threads of the machine are divided among them. Raises what the first that failed so said, as UsageError or
    ImagecotError; ImagecotError where one died without a word.
    """
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    processes = [
        context.Process(target=_worker, args=(work, arguments, rank, workers, failures), daemon=True)
        for rank in range(workers)
    ]
    started = []
    try:
        for process in processes:
            process.start()
            started.append(process)
        while any(process.is_alive() for process in processes):
            watch()
            interruption.check()
            time.sleep(0.5)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join()
    if not failures.empty():
        exit_code, message = failures.get()
        raise (UsageError if exit_code == UsageError.exit_code else ImagecotError)(message)
    died = next((process.exitcode for process in processes if process.exitcode), None)
    if died is not None:
        how = f"was killed by signal {-died}" if died < 0 else f"ended with exit code {died}"
        raise ImagecotError(
            f"a worker process died (it {how}); run the same command again to go on, or use fewer --workers."
        )


def _worker(work: Callable[..., None], arguments: tuple[Any, ...], rank: int, workers: int, failures: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from imagecot.memory import is_out_of_memory

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        work(*arguments, rank, workers)
    except ImagecotError as error:
        failures.put((error.exit_code, str(error)))
    except Exception as error:
        if is_out_of_memory(error):
            failures.put((1, "a worker process has not enough memory; use fewer --workers or a smaller model."))
            return
        if last_resort.switched_off():
            raise
        failures.put((1, last_resort.sentence(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a parent that is killed cannot end its workers
