"""Sharing work among processes on one machine, which end when the one that started them ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import TypeVarTuple

from imagecot import interruption, last_resort
from imagecot.errors import ImagecotError, UsageError
from imagecot.launch import use_device

Arguments = TypeVarTuple("Arguments")
Work = Callable[[*Arguments, int, int], None]


def share(work: Work[*Arguments], arguments: tuple[*Arguments], workers: int, watch: Callable[[], object]) -> None:
    """Call `work(*arguments, rank, workers)` in each of so many new processes, and `watch` twice a second meanwhile.

    The threads of the machine are divided among them, and they take its GPUs in turn. Raises what the first that failed
    so said, as UsageError or ImagecotError; ImagecotError where one died without a word.
    """
    context = multiprocessing.get_context("spawn")
    failures: SimpleQueue[tuple[int, str]] = context.SimpleQueue()
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


def _worker(
    work: Work[*Arguments],
    arguments: tuple[*Arguments],
    rank: int,
    workers: int,
    failures: SimpleQueue[tuple[int, str]],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from imagecot.memory import is_out_of_memory

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    use_device(rank)
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
