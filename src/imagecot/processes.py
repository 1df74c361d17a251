"""Sharing work among processes on one machine, which end when the one that started them ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from imagecot import interruption, last_resort
from imagecot.errors import ImagecotError


def share(work: Callable[..., None], arguments: tuple[Any, ...], workers: int, watch: Callable[[], object]) -> None:
    """Call `work(*arguments, rank, workers)` in each of so many new processes, and `watch` twice a second meanwhile.

    The threads of the machine are divided among them. ImagecotError with the message of the first that failed so; a
    process that died otherwise is not noticed here: look at what is missing.
    """
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    processes = [
        context.Process(target=_worker, args=(work, arguments, rank, workers, failures), daemon=True)
        for rank in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            watch()
            interruption.check()
            time.sleep(0.5)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    if not failures.empty():
        raise ImagecotError(failures.get())


def _worker(work: Callable[..., None], arguments: tuple[Any, ...], rank: int, workers: int, failures: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        work(*arguments, rank, workers)
    except ImagecotError as error:
        failures.put(str(error))
    except Exception as error:
        if last_resort.switched_off():
            raise
        failures.put(last_resort.sentence(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a parent that is killed cannot end its workers
