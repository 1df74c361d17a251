"""Searches that break one rule each: what the checks are proved by.

Every class says in its name or in a line what is wrong with it; all else is as in the right toys.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from imagecot.contracts.paths import Paths, finish
from imagecot.contracts.questions import PRM
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.images import to_pictures
from imagecot.strategies.options import OPTIONS, NoSettings
from imagecot.strategies.trace import ranked


class Best:
    """What the wrong searches are made of: all paths run to their end, and the best one is taken."""

    Settings: type[BaseModel] = NoSettings
    needs = frozenset({"verifier"})

    def paths(self, n: int) -> int:
        return n

    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        return Choice(candidates, ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> Choice | None:
        return Choice(recorded, max(range(len(recorded)), key=lambda k: (recorded[k].score, -k)))


class LacksReplay:
    Settings, needs, paths, choose = NoSettings, frozenset({"verifier"}), Best.paths, Best.choose


class NeedsALot(Best):
    needs = frozenset({"verifier", "luck"})


class Demanding(BaseModel):
    model_config = OPTIONS

    share: float


class WantsAnOption(Best):
    Settings = Demanding


class Lax(BaseModel):
    """Options that are not declared are passed over."""


class TakesAnyOption(Best):
    Settings = Lax


class TakesAStoppedPath(Best):
    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups(lambda run, paths, own: [0] if len(paths) > 1 and paths.step == 1 else [])
        stopped = [k for k, candidate in enumerate(candidates) if candidate.truncated_at is not None]
        return Choice(candidates, [*stopped, 0][0])

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> None:
        return None


class SaysThatItNeedsNothing(Best):
    needs: frozenset[str] = frozenset()

    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        best = max(candidates, key=lambda candidate: candidate.score)  # type: ignore[arg-type, return-value]
        return Choice(candidates, candidates.index(best))


class WantsTwoPaths(Best):
    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        first, second = ranked(candidates)[:2]
        return Choice(candidates, first if first != second else second)


class DrawsMoreThanItSays(Best):
    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        again = run.start(path_seeds(run.seed + 1, 2))
        more = [Candidate(int(seed)) for seed in again.seeds]
        while not again.finished:
            again = run.advance(again, more)
        run.score(again, more)
        return Choice([*candidates, *more], ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> None:
        return None


class TakesTurns(Best):
    """It takes the next path of every run."""

    turn = -1

    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        self.turn += 1
        return Choice(candidates, self.turn % len(candidates))

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> None:
        return None


class IgnoresTheSeed(Best):
    def choose(self, run: Run) -> Choice:
        def draw() -> list[Candidate]:
            paths = run.start(path_seeds(0, run.n))
            candidates = [Candidate(int(seed)) for seed in paths.seeds]
            while not paths.finished:
                paths = run.advance(paths, candidates)
            run.score(paths, candidates)
            return candidates

        candidates = run.once("all", draw)
        return Choice(candidates, ranked(candidates)[0])


class RemembersWhatItSaw(Best):
    """It chooses by a list that it fills while drawing, which an interrupted run has lost."""

    def choose(self, run: Run) -> Choice:
        self.seen: list[float] = []

        def look(run: Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
            if paths.step == 2:
                self.seen += run.preview(paths).mean((1, 2, 3)).tolist()
            return []

        candidates = run.in_groups(look)
        return Choice(candidates, self.seen.index(max(self.seen)) if self.seen else 0)

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> None:
        return None


class LooksBehindTheRun(Best):
    """It decodes images by the generator itself, which nobody counts."""

    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups()
        paths = finish(run.generator, run.start(path_seeds(run.seed, 1)))
        to_pictures(run.generator.decode(paths.codes))
        return Choice(candidates, ranked(candidates)[0])


class AsksOfStoppedPaths(Best):
    """It stops one path and goes on asking about it."""

    def choose(self, run: Run) -> Choice:
        def draw() -> list[Candidate]:
            paths = run.start(path_seeds(run.seed, run.n))
            candidates = [Candidate(int(seed)) for seed in paths.seeds]
            while not paths.finished:
                paths = run.advance(paths, candidates)
                run.ask(run.preview(paths), candidates, paths.step, PRM)
                if paths.step == 1 and run.n > 1:
                    candidates[-1].truncated_at = 1
            run.score(paths, candidates)
            return candidates

        candidates = run.once("all", draw)
        return Choice(candidates, ranked(candidates)[0])

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> None:
        return None


class ComparesAcrossSearches(Best):
    """It stops what is darker than the brightest preview that it has ever seen at a step, of any search."""

    def choose(self, run: Run) -> Choice:
        candidates = run.in_groups(self.assess)
        return Choice(candidates, ranked(candidates)[0])

    def assess(self, run: Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
        if paths.step == 1:
            self.brightest = {2: 0.0}
        if paths.step != 2:
            return []
        bright = run.preview(paths).mean((1, 2, 3)).tolist()
        first = self.brightest[2]
        self.brightest[2] = max(first, *bright, 0.0)
        return [row for row, one in enumerate(bright) if one < first][: len(paths) - 1]

    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> None:
        return None


class ReplaysTheLast(Best):
    def replay(self, recorded: Sequence[PathRecord], settings: Any) -> Choice:
        return Choice(recorded, len(recorded) - 1)


SEARCHES: dict[type, str | tuple[str, ...]] = {
    LacksReplay: "it has everything",
    NeedsALot: "it has everything",
    WantsAnOption: "its settings have defaults",
    TakesAnyOption: "unknown options are refused",
    TakesAStoppedPath: "it chooses a finished path",
    SaysThatItNeedsNothing: "it needs what it says",
    WantsTwoPaths: "one path is enough",
    DrawsMoreThanItSays: "it draws as many as it says",
    TakesTurns: "the same seed chooses the same",
    IgnoresTheSeed: "another seed draws other paths",
    RemembersWhatItSaw: "killed runs find the same",
    LooksBehindTheRun: "costs are counted",
    AsksOfStoppedPaths: "it asks of living paths only",
    ComparesAcrossSearches: "together it finds what it finds alone",
    ReplaysTheLast: "replayed it chooses the same",
}
