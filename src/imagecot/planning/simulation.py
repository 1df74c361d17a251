"""Many workers on units of work, simulated event by event: leases, failures, stragglers, preemption, bounded pools.

Workers are those of `imagecot.execution`. They take one unit at a time. A unit that a dead worker held is taken again
when others have lost patience with its heartbeat; whoever dies comes back after a while and loads its models again.
Time is simulated, so hours of a thousand workers take seconds. Everything random depends on the seed.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

OWN = ""  # the pool of what a worker has for itself


@dataclass(frozen=True)
class Stage:
    """Seconds of a pool, such as of served judges or of a shared disk; `OWN` is the worker's own card."""

    pool: str
    seconds: float


@dataclass(frozen=True)
class Trouble:
    """What goes wrong.

    failures   of a worker in an hour
    restart    seconds until a worker that failed is back, before it loads its models
    slow       share of the workers that are slow
    slowness   how many times longer these take
    spread     of the logarithm of a unit's seconds, as pictures and prompts differ
    preempted  of a machine in an hour: all of its workers go at once
    machine    workers of a machine
    away       seconds until a machine that was preempted is back
    """

    failures: float = 0.0
    restart: float = 60.0
    slow: float = 0.0
    slowness: float = 2.0
    spread: float = 0.0
    preempted: float = 0.0
    machine: int = 8
    away: float = 600.0


@dataclass(frozen=True)
class Camp:
    """Who works on what.

    units     the stages of each, one after the other
    load      what a worker does before its first unit
    pools     how many each pool serves at once; who comes first is served first
    take      seconds that taking a unit takes
    look      seconds between two looks of a worker that finds no unit free
    beat      seconds between heartbeats
    patience  seconds without one until a unit is taken over
    """

    workers: int
    units: Sequence[Sequence[Stage]]
    load: Sequence[Stage] = ()
    pools: Mapping[str, int] = field(default_factory=dict)
    trouble: Trouble = Trouble()
    take: float = 0.02
    look: float = 1.0
    beat: float = 5.0
    patience: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    seconds   until the last unit was done
    work      seconds of all units, of one worker alone without waiting
    begun     how often a unit was begun; more often than there are units where some were taken over
    failures  of workers, preemption included
    busy      share of its time that each pool was in use
    """

    seconds: float
    work: float
    begun: int
    failures: int
    busy: Mapping[str, float]

    def efficiency(self, workers: int) -> float:
        """The share of all workers' time that went into units, each counted once."""
        return self.work / (workers * self.seconds)


def simulate(camp: Camp) -> Outcome:
    """Let the workers of a camp do all its units."""
    return _Run(camp).outcome()


_Step = Generator[Stage, None, None]


@dataclass
class _Worker:
    """`life` counts how often it has begun anew; what an older life had under way is nothing any more."""

    number: int
    pace: float
    life: int = 0
    holds: int | None = None
    steps: _Step | None = None


@dataclass
class _Pool:
    """`waiting` are those who have asked, in order."""

    free: int
    size: int
    used: float = 0.0
    waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)


class _Run:
    def __init__(self, camp: Camp) -> None:
        self.camp, self.random = camp, random.Random(camp.seed)
        self.now, self.count = 0.0, 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.free = deque(range(len(camp.units)))
        self.left, self.begun, self.failures = len(camp.units), 0, 0
        self.pools = {name: _Pool(size, size) for name, size in camp.pools.items()}
        spread = camp.trouble.spread
        self.lengths = [self.random.lognormvariate(-(spread**2) / 2, spread) if spread else 1.0 for _ in camp.units]
        slow = set(self.random.sample(range(camp.workers), round(camp.trouble.slow * camp.workers)))
        self.workers = [_Worker(k, camp.trouble.slowness if k in slow else 1.0) for k in range(camp.workers)]

    def outcome(self) -> Outcome:
        for worker in self.workers:
            self._begin(worker)
            self._doom(worker)
        for first in range(0, self.camp.workers, self.camp.trouble.machine):
            self._preempt(self.workers[first : first + self.camp.trouble.machine])
        while self.left and self.events:
            self.now, _, happen = heapq.heappop(self.events)
            happen()
        each = zip(self.camp.units, self.lengths, strict=True)
        work = sum(stage.seconds * length for unit, length in each for stage in unit)
        busy = {name: pool.used / (pool.size * self.now) if self.now else 0.0 for name, pool in self.pools.items()}
        return Outcome(self.now, work, self.begun, self.failures, busy)

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        self.count += 1  # of two events of one time the one that was told first comes first
        heapq.heappush(self.events, (self.now + seconds, self.count, happen))

    def _begin(self, worker: _Worker) -> None:
        """Let a worker live: it loads, then does units until none is left."""
        worker.steps = self._live(worker)
        self._go_on(worker, worker.life)

    def _live(self, worker: _Worker) -> _Step:
        yield from self.camp.load
        while self.left:
            if not self.free:
                yield Stage(OWN, self.camp.look * self.random.uniform(0.5, 1.5) / worker.pace)
                continue
            unit = worker.holds = self.free.popleft()
            self.begun += 1
            yield Stage(OWN, self.camp.take / worker.pace)
            for stage in self.camp.units[unit]:
                yield Stage(stage.pool, stage.seconds * self.lengths[unit])
            worker.holds = None
            self.left -= 1

    def _go_on(self, worker: _Worker, life: int) -> None:
        """Let a worker do its next stage, unless it has died since that was told."""
        if worker.life != life or worker.steps is None:
            return
        stage = next(worker.steps, None)
        if stage is None:
            return
        if stage.pool == OWN or stage.pool not in self.pools:
            self._at(stage.seconds * worker.pace, lambda: self._go_on(worker, life))
            return
        self._ask(self.pools[stage.pool], stage.seconds, lambda: self._go_on(worker, life))

    def _ask(self, pool: _Pool, seconds: float, then: Callable[[], None]) -> None:
        """Serve, or let wait; what was asked for is served though who asked has died."""
        if not pool.free:
            pool.waiting.append((seconds, then))
            return
        pool.free -= 1
        pool.used += seconds

        def served() -> None:
            pool.free += 1
            if pool.waiting:
                self._ask(pool, *pool.waiting.popleft())
            then()

        self._at(seconds, served)

    def _doom(self, worker: _Worker) -> None:
        rate = self.camp.trouble.failures / 3600
        if rate:

            def fail() -> None:
                self._die(worker, self.camp.trouble.restart)
                self._doom(worker)

            self._at(self.random.expovariate(rate), fail)

    def _preempt(self, machine: Sequence[_Worker]) -> None:
        rate = self.camp.trouble.preempted / 3600
        if rate:

            def take() -> None:
                for worker in machine:
                    self._die(worker, self.camp.trouble.away)
                self._preempt(machine)

            self._at(self.random.expovariate(rate), take)

    def _die(self, worker: _Worker, away: float) -> None:
        self.failures += 1
        worker.life += 1
        unit, worker.holds, worker.steps = worker.holds, None, None
        if unit is not None:
            # The last heartbeat was up to `beat` ago; others look up to `look` late.
            late = self.random.uniform(0, self.camp.look) - self.random.uniform(0, self.camp.beat)
            self._at(max(0.0, self.camp.patience + late), lambda: self.free.append(unit))
        life = worker.life
        self._at(away, lambda: self._begin(worker) if worker.life == life else None)
