"""Workers that are actors of a Ray cluster: each holds its models, on a GPU of its own where the cluster has any.

The cluster is the one that RAY_ADDRESS names; without it this machine becomes one for as long as the work takes. Ray
starts an actor again that dies, also on another machine. All machines see the folder of results under the same path.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from imagecot import interruption
from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.execution.camp import Camp
from imagecot.execution.failures import Failures, told
from imagecot.execution.local import REPLACED
from imagecot.execution.member import Unable
from imagecot.watch import SILENT

if TYPE_CHECKING:
    from imagecot.execution.team import Sharing, Team
    from imagecot.execution.work import Work

_EVERY = 0.5  # seconds between two looks
# What is wanted of Ray where nobody says otherwise: it talks to nobody but its own processes.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
Ended = tuple[str, str]  # the class of an error and what it says; ("", "") where there was none


def run(sharing: "Sharing") -> None:
    """Start the actors and wait for them.

    UsageError where Ray is not installed, and as of `Work.load`; ImagecotError where Ray cannot be reached, and where
    no actor can do more.
    """
    if find_spec("ray") is None:
        raise UsageError('Ray is not installed; run: pip install "imagecot[ray]"')
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    started = not ray.is_initialized()
    try:
        ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ImagecotError(f"Ray cannot be reached ({first_line(error)[:200]}); check RAY_ADDRESS.") from None
    try:
        _run(sharing)
    finally:
        if started:
            ray.shutdown()


def _run(sharing: "Sharing") -> None:
    import ray

    workers = min(sharing.team.workers, len(sharing.work.missing()))
    gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
    made = ray.remote(max_restarts=REPLACED, max_task_retries=REPLACED, num_gpus=gpus, num_cpus=1)(_Worker)
    actors = [made.remote() for _ in range(workers)]
    given = sharing.work, sharing.team, sharing.failures.before
    waiting = {actor.work.remote(*given, rank, workers): rank for rank, actor in enumerate(actors)}
    last = ""
    while waiting:
        interruption.check()
        ended, _ = ray.wait([*waiting], timeout=_EVERY)
        sharing.look(sharing.work.missing())
        for call in ended:
            rank = waiting.pop(call)
            kind, message = _result(call)
            if kind == UsageError.__name__:
                raise UsageError(message)
            if kind and kind != Unable.__name__:
                raise ImagecotError(message)
            if kind:
                last = message
                sharing.watch.tell(f"worker {rank + 1} of {workers} stopped: {message}")
    if last and sharing.work.missing():
        raise ImagecotError(last)


def _result(call: object) -> Ended:
    """What an actor said in the end, or Ray of one that died too often."""
    import ray

    try:
        found: Ended = ray.get(call)
    except ray.exceptions.RayError as error:
        return Unable.__name__, f"a worker of Ray died ({first_line(error)[:200]}); run the same command again."
    return found


class _Worker:
    """An actor."""

    def work(self, work: "Work", team: "Team", before: frozenset[str], rank: int, workers: int) -> Ended:
        from imagecot.execution.team import Sharing, nobody

        camp = Camp(work.folder)
        sharing = Sharing(work, team, camp, Failures(camp.failures().folder, before), SILENT, nobody)
        try:
            sharing.member((rank, workers))
        except UsageError as error:
            return UsageError.__name__, str(error)
        except Unable as error:
            return Unable.__name__, str(error)
        except ImagecotError as error:
            return ImagecotError.__name__, str(error)
        except Exception as error:
            return Unable.__name__, told(error)
        return "", ""
