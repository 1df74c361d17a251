"""What is tried of a search, on a small generator and a small verifier that count for themselves: it takes seconds."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from torch import tensor

from imagecot.checks.drawing import PROMPTS
from imagecot.checks.members import lacks
from imagecot.checks.outcome import Outcome, Remark, Rule, tried
from imagecot.checks.toys import CorrectingToy, ReflectingToy, RemaskingToy, ToyGenerator, ToyVerifier, scores
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.search import Candidate, Choice, Cost, PathRecord, Strategy
from imagecot.contracts.values import JSON, rounded
from imagecot.strategies.lines import as_line
from imagecot.strategies.many import search_many
from imagecot.strategies.request import Request
from imagecot.strategies.resume import Partial
from imagecot.strategies.run import Run

NEEDS = frozenset({"verifier", "reflector", "corrector", "remasker"})
_N, _SEED = 7, 5
_ALL_AT_ONCE = 64  # paths a pass, so that a search has one group of paths
_PLACES = 5  # of numbers that must be the same: products of another batch size round otherwise


def check_search(strategy: Strategy) -> list[Outcome]:
    """Try all rules of searches; the search itself is copied, and not run."""
    return tried(RULES, Subject(strategy), strategy)


@dataclass(frozen=True)
class Found:
    """All that must be the same when the same is searched for again."""

    choice: int
    candidates: list[JSON]
    image: bytes | None = None

    def first_other(self, than: "Found") -> str:
        """The name of the first thing that differs."""
        ours, theirs = asdict(self), asdict(than)
        return next((name for name in ours if ours[name] != theirs[name]), "result")


@dataclass(frozen=True)
class Trial:
    """A search that was run, and what it worked with."""

    choice: Choice[Candidate]
    cost: Cost
    generator: ToyGenerator
    verifier: ToyVerifier | None

    @property
    def candidates(self) -> list[Candidate]:
        """All that it looked at."""
        return [*self.choice.candidates]

    @property
    def found(self) -> Found:
        """All that must be the same when the same is searched for again."""
        image = self.candidates[self.choice.index].image
        lines = [rounded(as_line(one), _PLACES) for one in self.candidates]
        return Found(self.choice.index, lines, None if image is None else image.tobytes())


@dataclass(frozen=True)
class Subject:
    """A search on trial."""

    strategy: Strategy

    def run(
        self,
        n: int = _N,
        seed: int = _SEED,
        *,
        fresh: bool = True,
        at_once: int = 3,
        models: tuple[type[ToyGenerator], type[ToyVerifier] | None] = (CorrectingToy, ReflectingToy),
        keeping: Callable[[Request], Partial] | None = None,
    ) -> Trial:
        """Search with small models.

        fresh    with a copy of the search
        at_once  paths of one pass, which are a group of the search
        keeping  makes what keeps the units of work
        """
        strategy = copy.deepcopy(self.strategy) if fresh else self.strategy
        generator, verifier = models[0](paths_per_pass=at_once), models[1]() if models[1] else None
        request = Request(PROMPTS[0], generator, verifier, strategy, n, seed)
        run = Run(request, keeping(request) if keeping else None)
        return Trial(request.search.choose(run), run.cost, generator, verifier)


class _Killed(BaseException):
    """What ends a run, as no `except Exception` may hold it up."""


class _Killing(Partial):
    """Keeps units of work, and ends the run after some of them."""

    def __init__(self, folder: Path, request: Request, after: int) -> None:
        super().__init__(folder, request.identity)
        self.left = after

    def save(self, unit: str, candidates: list[Candidate], cost: Cost) -> None:
        """Keep a unit, and end the run if it was the last one."""
        super().save(unit, candidates, cost)
        self.left -= 1
        if self.left == 0:
            raise _Killed


def it_has_everything(subject: Subject) -> str | None:
    """It has all methods and attributes of a search, and needs nothing but what can be had."""
    problem = lacks(subject.strategy, "search", Strategy)
    if problem is not None:
        return problem
    settings, needs = subject.strategy.Settings, subject.strategy.needs
    if not isinstance(settings, type) or not issubclass(settings, BaseModel):
        return f"Settings is {settings!r}; make it a class of pydantic (NoSettings of imagecot.strategies.options)."
    if not isinstance(needs, frozenset) or not needs <= NEEDS:
        return f"needs is {needs!r}; make it a frozenset of some of {', '.join(sorted(NEEDS))}."
    return None


def its_settings_have_defaults(subject: Subject) -> str | Remark | None:
    """`Settings()` can be made; a remark where an option has no description, which is its help."""
    try:
        subject.strategy.Settings()
    except ValidationError as error:
        missing = ", ".join(str(detail["loc"][0]) for detail in error.errors() if detail["loc"])
        return f"Settings() cannot be made ({missing}); give every option a default."
    silent = [name for name, entry in subject.strategy.Settings.model_fields.items() if not entry.description]
    return Remark(f"{', '.join(silent)} of Settings has no description, which would be its help.") if silent else None


def unknown_options_are_refused(subject: Subject) -> str | None:
    """`Settings` takes no option that it does not declare."""
    try:
        subject.strategy.Settings.model_validate({"no_such_option": 1})
    except ValidationError:
        return None
    return (
        "Settings takes an option that it does not declare; set model_config = OPTIONS (imagecot.strategies.options)."
    )


def it_needs_what_it_says(subject: Subject) -> str | None:
    """It works with models that can do what it needs and nothing else."""
    needs = subject.strategy.needs
    judging = ReflectingToy if "reflector" in needs else ToyVerifier if "verifier" in needs else None
    drawing = CorrectingToy if "corrector" in needs else RemaskingToy if "remasker" in needs else ToyGenerator
    try:
        subject.run(models=(drawing, judging))
    except Exception as error:
        said = ", ".join(sorted(needs)) or "nothing"
        return f"it needs {said}, and with that alone it raises {type(error).__name__} ({error}); say all in needs."
    return None


def it_chooses_a_finished_path(subject: Subject) -> str | None:
    """Its choice is one of its candidates that ran to its end and has an image."""
    choice = subject.run().choice
    if not isinstance(choice, Choice) or not 0 <= choice.index < len(choice.candidates):
        return "choose returns no Choice of one of its candidates; return Choice(candidates, index)."
    chosen = choice.candidates[choice.index]
    if chosen.truncated_at is not None or chosen.image is None:
        return f"candidate {choice.index} is chosen, which has no image; choose among those that finished."
    return None


def one_path_is_enough(subject: Subject) -> str | None:
    """It works where one path is asked for."""
    try:
        found = subject.run(n=1).choice
    except Exception as error:
        return f"with n = 1 it raises {type(error).__name__} ({error}); let one path be enough."
    return None if found.candidates[found.index].image is not None else "with n = 1 its choice has no image."


def it_draws_as_many_as_it_says(subject: Subject) -> str | None:
    """It has no more candidates, corrections and forks aside, than `paths(n)` says."""
    for n in (1, 2, _N):
        said = subject.strategy.paths(n)
        if type(said) is not int or said < 1:
            return f"paths({n}) is {said!r}; return a whole number from 1."
    said, found = subject.strategy.paths(_N), subject.run().candidates
    drawn = sum(not candidate.round and candidate.forks is None for candidate in found)
    return None if drawn <= said else f"paths({_N}) is {said}, but it has {drawn} candidates; say how many it draws."


def the_same_seed_chooses_the_same(subject: Subject) -> str | None:
    """Run twice, the search finds the same under the same seed."""
    strategy = Subject(copy.deepcopy(subject.strategy))
    once, again = (strategy.run(fresh=False).found for _ in range(2))
    if once == again:
        return None
    other = once.first_other(again)
    return f"a second run under the same seed has another {other}; draw from run.seed, keep nothing in self."


def another_seed_draws_other_paths(subject: Subject) -> str | None:
    """Under another seed it has other candidates."""
    seeds = [[candidate.seed for candidate in subject.run(seed=seed).candidates] for seed in (_SEED, _SEED + 1)]
    return (
        None if seeds[0] != seeds[1] else "another seed has the same candidates; take seeds from path_seeds(run.seed)."
    )


def killed_runs_find_the_same(subject: Subject) -> str | None:
    """Killed after any unit of its work and run again, it finds what it finds in one go, at the same cost."""
    whole, units, killed = subject.run(), 0, True
    while killed:
        units += 1
        resumed, killed = _killed_after(subject, units)
        if resumed.found != whole.found:
            return (
                f"killed after {units} units and run again, it has another {whole.found.first_other(resumed.found)}; "
                "decide by what stands in the candidates, which are kept."
            )
        if _counts(resumed.cost) != _counts(whole.cost):
            return f"killed after {units} units and run again, it counts otherwise; draw only inside of run.once."
    return None


def costs_are_counted(subject: Subject) -> str | None:
    """Its cost has all rows, previews and answers that the models know of."""
    trial = subject.run()
    counted = _counts(trial.cost)
    spent = {"generator_rows": trial.generator.rows, "previews": trial.generator.previews}
    if trial.verifier is not None:
        spent |= {
            "judge_calls": trial.verifier.usage.judge_calls,
            "tokens_judged": trial.verifier.usage.tokens_judged,
        }
    for name, value in spent.items():
        if counted[name] != value:
            return f"it counts {counted[name]} {name} where there were {value}; use the models through `run` alone."
    return None


def it_asks_of_living_paths_only(subject: Subject) -> str | None:
    """Nothing is asked about a path after the step at which it was stopped."""
    for k, candidate in enumerate(subject.run().candidates):
        last = max((verdict.step for verdict in candidate.verdicts), default=0)
        if candidate.truncated_at is not None and last > candidate.truncated_at:
            return (
                f"candidate {k} was stopped after step {candidate.truncated_at} and asked about after step {last}; "
                "leave out what is stopped."
            )
    return None


def together_it_finds_what_it_finds_alone(subject: Subject) -> str | None:
    """Several searches whose paths share batches find what each finds alone."""
    prompts, seeds = [*PROMPTS, "two dogs"], [5, 6, 7]

    def both(prompts: list[str], seeds: list[int]) -> list[Found]:
        traces = search_many(
            prompts,
            seeds,
            generator=CorrectingToy(paths_per_pass=_ALL_AT_ONCE),
            verifier=ReflectingToy(),
            strategy=copy.deepcopy(subject.strategy),
            n=_N,
        )
        return [Found(trace.chosen, [rounded(as_line(one), _PLACES) for one in trace.candidates]) for trace in traces]

    together = both(prompts, seeds)
    for k, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = both([prompt], [seed])[0]
        if together[k] != alone:
            other = alone.first_other(together[k])
            return (
                f"of {len(prompts)} searches in common batches number {k} finds another {other} than alone; let assess "
                "look at its own run, paths and candidates."
            )
    return None


def replayed_it_chooses_the_same(subject: Subject) -> str | Remark | None:
    """Replayed on what was recorded of the paths that it drew, it takes the same one."""
    trial = subject.run(at_once=_ALL_AT_ONCE)
    settings = subject.strategy.Settings()
    seeds = path_seeds(_SEED, subject.strategy.paths(_N)).tolist()
    records = _records(trial, seeds)
    replayed = subject.strategy.replay(records, settings)
    if replayed is None:
        return None
    taken = trial.candidates[trial.choice.index].seed
    if taken not in seeds or replayed.index != seeds.index(taken):
        return (
            f"replay takes path {replayed.index} of what it drew where it took that of seed {taken}; follow its rule."
        )
    for some in range(1, len(records)):
        found = subject.strategy.replay(records[:some], settings)
        if found is None or not 0 <= found.index < some:
            return f"replay takes none of {some} recorded paths; choose in groups of any size."
    return None


def _killed_after(subject: Subject, units: int) -> tuple[Trial, bool]:
    """The search, run again in the folder of a run that was killed after some units; whether it lasted so long."""
    with tempfile.TemporaryDirectory() as place:
        folder, killed = Path(place), False
        try:
            subject.run(keeping=lambda request: _Killing(folder, request, units))
        except _Killed:
            killed = True
        return subject.run(keeping=lambda request: Partial(folder, request.identity)), killed


def _records(trial: Trial, seeds: Sequence[int]) -> list[PathRecord]:
    """What a study would keep of the paths of a search: all of them at their end, and those that it never drew."""
    generator = ToyGenerator(paths_per_pass=_ALL_AT_ONCE)
    images = generator.decode(finish(generator, generator.start([PROMPTS[0]], tensor(seeds))).codes)
    drawn = {candidate.seed: candidate for candidate in trial.candidates}
    candidates = [drawn.get(seed, Candidate(seed)) for seed in seeds]
    found = []
    for candidate, score in zip(candidates, scores(ToyVerifier(), images, PROMPTS[0]), strict=True):
        potential = [verdict.p_yes for verdict in candidate.verdicts if verdict.question == "potential"]
        stopped = candidate.truncated_at if candidate.resumed_at is None else candidate.resumed_at
        found.append(PathRecord(score, stopped, candidate.first_clear, potential[0] if potential else None))
    return found


def _counts(cost: Cost) -> dict[str, int]:
    return {name: value for name, value in asdict(cost).items() if "seconds" not in name}


_CHOOSES = (it_has_everything, its_settings_have_defaults, it_chooses_a_finished_path)
_SEEDED = (*_CHOOSES, the_same_seed_chooses_the_same)
RULES = (
    Rule(it_has_everything),
    Rule(its_settings_have_defaults, (it_has_everything,)),
    Rule(unknown_options_are_refused, (it_has_everything,)),
    Rule(it_chooses_a_finished_path, (it_has_everything, its_settings_have_defaults)),
    Rule(it_needs_what_it_says, _CHOOSES),
    Rule(one_path_is_enough, _CHOOSES),
    Rule(it_draws_as_many_as_it_says, _CHOOSES),
    Rule(the_same_seed_chooses_the_same, _CHOOSES),
    Rule(another_seed_draws_other_paths, _SEEDED),
    Rule(killed_runs_find_the_same, _SEEDED),
    Rule(costs_are_counted, _CHOOSES),
    Rule(it_asks_of_living_paths_only, _CHOOSES),
    Rule(together_it_finds_what_it_finds_alone, _SEEDED),
    Rule(replayed_it_chooses_the_same, (*_SEEDED, another_seed_draws_other_paths)),
)
