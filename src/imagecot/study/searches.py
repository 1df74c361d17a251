"""What a study must know of a search, asked of the search itself: what it needs, what it draws, how it is replayed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from pydantic import BaseModel, ValidationError

from imagecot import registry
from imagecot.bounds import MOST_PATHS, shown
from imagecot.contracts.questions import ORM
from imagecot.contracts.search import Choice, PathRecord, Strategy
from imagecot.errors import ImagecotError
from imagecot.imported import calling
from imagecot.promises import number_of_paths
from imagecot.strategies import replay
from imagecot.strategies.options import validated

SIZES = (1, 2, 3, 5, 8, 12, 16, 20, 30, 40)
_PROBED_PATHS, _PROBED_STEPS = 20, 64
_FINISHED = PathRecord(score=0.5, first_clear=1, potential=0.5)
_HOPEFUL = PathRecord(score=0.9, first_clear=1, potential=0.9)
_HOPELESS = PathRecord(score=0.9, stopped=1, first_clear=1, potential=0.1)


@lru_cache
def strategy_named(name: str) -> Strategy:
    """The search of a name; errors as of `registry.load`."""
    found: Strategy = registry.load("search", name)
    return found


def wrong_settings(strategy: Strategy, options: Mapping[str, object]) -> ValidationError | None:
    """What is wrong with the options of a search, by option; None where nothing is."""
    unknown = [name for name in options if name not in strategy.Settings.model_fields]
    if unknown:
        return ValidationError.from_exception_data(
            strategy.Settings.__name__,
            [{"type": "extra_forbidden", "loc": (name,), "input": options[name]} for name in unknown],
        )
    found = validated(strategy, options, {})
    return found if isinstance(found, ValidationError) else None


@dataclass(frozen=True)
class How:
    """A search with its settings, as a row of a study has it.

    name  of the search, for messages
    """

    name: str
    strategy: Strategy
    settings: BaseModel

    def paths(self, n: int) -> int:
        """How many paths the search draws where n are asked for; UsageError where it says no such number."""
        return number_of_paths(self.strategy, self.name, n)

    @cached_property
    def replayed(self) -> bool:
        """Whether it takes one of the recorded paths of its generator; else it draws paths of its own."""
        return self._replay([_FINISHED]) is not None

    @cached_property
    def chooses(self) -> bool:
        """Whether it takes one of several recorded paths, so that there is a curve over their number."""
        return self.replayed and self.paths(MOST_PATHS) > 1

    @cached_property
    def stops(self) -> bool:
        """Whether it matters what was said of a path before its end; else final images are all that it looks at."""
        return self.chooses and self.choice([_HOPELESS, _FINISHED]) != self.choice([_HOPEFUL, _FINISHED])

    @cached_property
    def asks_of_images_alone(self) -> bool:
        """Whether it asks the ORM question about final images and nothing else, so that P(yes) of these is enough."""
        paths = self.paths(_PROBED_PATHS)
        told = replay.Recorded(_PROBED_STEPS, [0.5] * paths, {})
        try:
            _, spent = replay.replay(self.strategy, self.settings, told, range(paths))
        except ImagecotError:
            return False
        return set(spent.items) == {replay.STEP, replay.DECODE, ORM.name}

    def choice(self, recorded: Sequence[PathRecord]) -> int:
        """Which of recorded paths it takes; ImagecotError where it takes none of them."""
        taken = self._replay(recorded)
        if taken is not None:
            path = taken.candidates[taken.index]
            for k, record in enumerate(recorded):
                if record is path:
                    return k
        raise ImagecotError(
            f"the replay of {self.name} takes none of the paths that it was given; let it return one of them, or None "
            "for every group of paths."
        )

    def _replay(self, recorded: Sequence[PathRecord]) -> Choice | None:
        """What it takes; ImagecotError where that is no choice."""
        with calling(self.strategy, "replay"):
            taken = self.strategy.replay(recorded, self.settings)
        if taken is None:
            return None
        found: object = taken
        if (
            not isinstance(found, Choice)
            or type(found.index) is not int
            or not 0 <= found.index < len(found.candidates)
        ):
            raise ImagecotError(
                f"the replay of {self.name} returns {shown(found)}; let it return None or a Choice of one of the paths "
                "that it was given."
            )
        return taken

    def sizes(self, n: int) -> list[int]:
        """The numbers of paths to ask for, up to n, for which its score and seconds are of interest.

        Of numbers for which it draws equally many the smallest.
        """
        asked = sizes(n) if self.replayed else [n]
        return sorted({self.paths(size): size for size in reversed(asked)}.values())


def sizes(n: int) -> list[int]:
    """The points of a curve up to n paths."""
    return [size for size in SIZES if size < n] + [n]
