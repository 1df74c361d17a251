"""Generators, verifiers and searches that break one rule each: what the checks are proved by.

Every class says in its name or in a line what is wrong with it; all else is as in the right toys.
"""

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor

from contracts.toys import Everything, number, text_of
from imagecot.checks.toys import ReflectingToy, ToyGenerator, ToyVerifier
from imagecot.contracts.correction import Asked, Correction
from imagecot.contracts.paths import UNDECIDED, Paths, finish
from imagecot.contracts.questions import PRM, Question
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.scorer import Draws, Terms
from imagecot.contracts.search import Candidate, Choice, PathRecord, Run
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.images import to_pictures
from imagecot.strategies.options import OPTIONS, NoSettings
from imagecot.strategies.trace import ranked

# Generators ---------------------------------------------------------------------------------------------------------


class LacksDecode:
    steps, rows_per_path, paths_per_pass, canvas = 4, 1, 3, ToyGenerator.canvas
    settings: ClassVar[dict[str, object]] = {}
    start, resume, advance, preview = (
        getattr(ToyGenerator, name) for name in ("start", "resume", "advance", "preview")
    )


class CountsNothing(ToyGenerator):
    rows_per_path = 0


class SaysTooManySteps(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        return replace(super().start(prompts, seeds), steps=5)


class DrawsInSmallNumbers(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        paths = super().advance(paths)
        return replace(paths, codes=paths.codes.int())


class BeginsWithCodes(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, codes=torch.zeros_like(paths.codes))


class ForgetsSeeds(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        return super().start(prompts, seeds.flip(0))


class LeavesACodeOut(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        paths = super().advance(paths)
        codes = paths.codes.clone()
        codes[:, -1] = UNDECIDED
        return replace(paths, codes=codes)


class DrawsForeignCodes(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        paths = super().advance(paths)
        return replace(paths, codes=torch.where(paths.codes == UNDECIDED, UNDECIDED, paths.codes % 16 + 16))

    def _read(self, codes: Tensor, step: int) -> Tensor:
        return super()._read(codes % 16, step)


class ShowsBytes(ToyGenerator):
    def _images(self, codes: Tensor) -> Tensor:
        return super()._images(codes) * 255


class ShowsAnotherSize(ToyGenerator):
    def _images(self, codes: Tensor) -> Tensor:
        return super()._images(codes)[:, :, :-1]


class SettingsHoldATensor(ToyGenerator):
    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": torch.tensor(self.temperature)}


class SettingsCountCalls(ToyGenerator):
    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature, "rows": self.rows}


class DrawsByGlobalChance(ToyGenerator):
    def _row(self, paths: Paths) -> Paths:
        return super()._row(replace(paths, seeds=torch.randint(2**30, paths.seeds.shape)))


class DrawsByBatch(ToyGenerator):
    """One multinomial for the whole batch, seeded by its first path."""

    def _row(self, paths: Paths) -> Paths:
        seeds = paths.seeds[:1] + torch.arange(len(paths))
        return replace(super()._row(replace(paths, seeds=seeds)), seeds=paths.seeds)


class DrawsTheFirstPrompt(ToyGenerator):
    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, prompt_index=torch.zeros_like(paths.prompt_index))


class SplitsWithTheSameSeeds(ToyGenerator):
    """Each part of a large batch is drawn under the seeds of the first."""

    def advance(self, paths: Paths) -> Paths:
        size = self.paths_per_pass
        seeds = torch.cat([paths.seeds[:size]] * (len(paths) // size + 1))[: len(paths)]
        return replace(super().advance(replace(paths, seeds=seeds)), seeds=paths.seeds)


class TellsTwinsApart(ToyGenerator):
    """Forks under the same seed are made to differ."""

    def advance(self, paths: Paths) -> Paths:
        seeds = [seed + paths.seeds.tolist()[:k].count(seed) for k, seed in enumerate(paths.seeds.tolist())]
        return replace(super().advance(replace(paths, seeds=torch.tensor(seeds))), seeds=paths.seeds)


class KeepsTheFirstSeeds(ToyGenerator):
    """The seeds that paths were started with are their own, whatever seeds forks are given."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, own={"cache": paths.own["cache"], "seeds": seeds})

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().resume(prompts, seeds, codes, step)
        return replace(paths, own={"cache": paths.own["cache"], "seeds": seeds})

    def advance(self, paths: Paths) -> Paths:
        after = super().advance(replace(paths, seeds=paths.own["seeds"]))
        return replace(after, seeds=paths.seeds, own={"cache": after.own["cache"], "seeds": paths.own["seeds"]})


class CachesInShared(ToyGenerator):
    """The cache of all paths lies in `shared`, in the order that they were started in."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        return self._sharing(super().start(prompts, seeds))

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().start(prompts, seeds)
        own = {"cache": self._read(codes, step)}
        return self._sharing(replace(paths, codes=codes, step=step, own=own))

    def advance(self, paths: Paths) -> Paths:
        shared, cache = paths.shared
        rows = torch.arange(len(paths)) % len(cache)
        return self._sharing(super().advance(replace(paths, shared=shared, own={"cache": cache[rows]})))

    def _sharing(self, paths: Paths) -> Paths:
        return replace(paths, shared=(paths.shared, paths.own["cache"]), own=None)


class CachesOnItself(CachesInShared):
    """As one that keeps its cache in an attribute: the paths that were advanced last have it."""

    def _sharing(self, paths: Paths) -> Paths:
        self.cache = paths.own["cache"]
        return replace(paths, own=None)

    def advance(self, paths: Paths) -> Paths:
        rows = torch.arange(len(paths)) % len(self.cache)
        return self._sharing(ToyGenerator.advance(self, replace(paths, own={"cache": self.cache[rows]})))


class ResumesWithoutCache(ToyGenerator):
    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        return replace(self.start(prompts, seeds), codes=codes, step=step)

    def _row(self, paths: Paths) -> Paths:
        after = super()._row(paths)
        cache = paths.own["cache"].clone()
        cache[:, paths.step] = after.own["cache"][:, paths.step]
        return replace(after, own={"cache": cache})


class ShowsNothingOfTheResumed(ToyGenerator):
    """A path that was entered again is shown as an empty canvas until its next step."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        paths = super().start(prompts, seeds)
        return replace(paths, own={**paths.own, "blank": torch.zeros(len(seeds))})

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().resume(prompts, seeds, codes, step)
        return replace(paths, own={**paths.own, "blank": torch.ones(len(seeds))})

    def advance(self, paths: Paths) -> Paths:
        after = super().advance(paths)
        return replace(after, own={**after.own, "blank": torch.zeros(len(after))})

    def preview(self, paths: Paths) -> Tensor:
        return super().preview(paths) * (1 - paths.own["blank"].view(-1, 1, 1, 1))


class WritesInPlace(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        after = super().advance(paths)
        paths.codes.copy_(after.codes)
        return replace(after, codes=paths.codes)


class RemembersPaths(ToyGenerator):
    """How often a path was advanced is kept by its seed, on the generator."""

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        self.advanced = dict.fromkeys(seeds.tolist(), 0)
        return super().start(prompts, seeds)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        paths = super().resume(prompts, seeds, codes, step)
        self.advanced = dict.fromkeys(seeds.tolist(), step)
        return paths

    def advance(self, paths: Paths) -> Paths:
        seeds = [seed + self.advanced.get(seed, paths.step) for seed in paths.seeds.tolist()]
        for seed in set(paths.seeds.tolist()):
            self.advanced[seed] = self.advanced.get(seed, paths.step) + 1
        return replace(super().advance(replace(paths, seeds=torch.tensor(seeds))), seeds=paths.seeds)


class PreviewsDraw(ToyGenerator):
    """A preview leaves its mark in the cache of its paths."""

    def preview(self, paths: Paths) -> Tensor:
        paths.own["cache"] += 0.5
        return super().preview(paths)


class PreviewsStretchTheBatch(ToyGenerator):
    """The brightest pixel of the batch becomes white while paths are not finished."""

    def preview(self, paths: Paths) -> Tensor:
        images = super().preview(paths)
        return images if paths.finished else images / images.max().clamp(min=1e-3)


class LastPreviewIsBrighter(ToyGenerator):
    def preview(self, paths: Paths) -> Tensor:
        return super().preview(paths) * 0.5 + 0.5


class DrawsOnAndOn(ToyGenerator):
    def advance(self, paths: Paths) -> Paths:
        return paths if paths.finished else super().advance(paths)


@dataclass
class HidesItsTemperature(ToyGenerator):
    @property
    def settings(self) -> Mapping[str, Any]:
        return {}


class RefusesByValueError(Everything):
    def check_prompt(self, prompt: str) -> None:
        if len(prompt) > 1000:
            raise ValueError("too long")


class CorrectsFromTheMiddle(Everything):
    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        return self.advance(super().correct(prompts, seeds, corrections))


class CorrectsTheFirstOnly(Everything):
    def correct(self, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]) -> Paths:
        return super().correct(prompts, seeds, corrections[:1])


class RemasksEverything(Everything):
    def remask(self, paths: Paths, undecided: Tensor) -> Paths:
        return super().remask(paths, torch.ones_like(undecided))


class PreviewsAreOthers(Everything):
    def predicted(self, paths: Paths) -> Tensor:
        return paths.own["predicted"].roll(1, 1)

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(paths.own["predicted"])


class EncodesInSmallNumbers(Everything):
    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images).int()


class FillsInSecret(ToyGenerator):
    fill = "blank"


class FillsByNumber(ToyGenerator):
    fill = 0

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature, "fill": self.fill}


class AdjustsItself(Everything):
    def adjusted(self, **settings: Any) -> "Everything":
        other = super().adjusted(**settings)
        self.temperature = other.temperature
        return other


class AdjustsNothing(Everything):
    def adjusted(self, **settings: Any) -> "Everything":
        super().adjusted(**settings)
        return copy.copy(self)


class AdjustsAnything(Everything):
    def adjusted(self, **settings: Any) -> "Everything":
        other = copy.copy(self)
        for name, value in settings.items():
            setattr(other, name, value)
        return other


class ScoresByChance(Everything):
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return super().log_likelihood(asked, codes, draws) - 3 * random.random()


class ScoresInPercent(Everything):
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return super().log_likelihood(asked, codes, draws).exp() * 100


class TermsAreSums(Everything):
    def step_terms(self, states: Sequence[Paths], draws: int) -> Terms:
        terms = super().step_terms(states, draws)
        return Terms(terms.log_probs.sum(1), terms.weights)


class ScoresWithoutGradient(Everything):
    @torch.no_grad()
    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        return super().log_likelihood(asked, codes, draws)


class ScoresUnderOldWeights(Everything):
    """The gradient is there, but what is scored was computed before the step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.old = copy.deepcopy(self.head)

    def log_likelihood(self, asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
        now = super().log_likelihood(asked, codes, draws)
        prompts = number([text_of(one) for one in asked])
        old = self.old(prompts).log_softmax(2).gather(2, codes[..., None])[..., 0].sum(1).detach()
        return old + (now - now.detach())


class CopiesShareWeights(Everything):
    def copy(self, dtype: torch.dtype) -> "Everything":
        return copy.copy(self)


class SavesNothing(Everything):
    def save(self, folder: Path) -> None:
        folder.mkdir()


GENERATORS: dict[type, str | tuple[str, ...]] = {
    LacksDecode: "it has everything",
    CountsNothing: "costs and sizes can be",
    SaysTooManySteps: "it draws in its steps",
    DrawsInSmallNumbers: "it draws in its steps",
    BeginsWithCodes: "it draws in its steps",
    ForgetsSeeds: "it draws in its steps",
    LeavesACodeOut: "codes are of the canvas",
    DrawsForeignCodes: "codes are of the canvas",
    ShowsBytes: "images are of the canvas",
    ShowsAnotherSize: "images are of the canvas",
    SettingsHoldATensor: "settings are json and stay",
    SettingsCountCalls: "settings are json and stay",
    DrawsByGlobalChance: "the same seed draws the same",
    DrawsByBatch: "a path is the same in any batch",
    DrawsTheFirstPrompt: "prompts can be mixed",
    SplitsWithTheSameSeeds: "micro batches change nothing",
    TellsTwinsApart: "a fork goes on as its path",
    KeepsTheFirstSeeds: "forks follow their new seeds",
    CachesInShared: "paths can be selected",
    # What a generator keeps of paths on itself is lost when they are reordered and when older ones are taken up.
    CachesOnItself: ("paths can be selected", "older paths can be taken up"),
    ResumesWithoutCache: "paths can be resumed",
    ShowsNothingOfTheResumed: "resumed paths show what they showed",
    WritesInPlace: "older paths can be taken up",
    RemembersPaths: "older paths can be taken up",
    PreviewsDraw: "previews change nothing",
    PreviewsStretchTheBatch: "previews belong to their paths",
    LastPreviewIsBrighter: "the last preview is the image",
    DrawsOnAndOn: "no step follows the last",
    HidesItsTemperature: "settings name what changes images",
    RefusesByValueError: "the prompts can be read",
    CorrectsFromTheMiddle: "corrections draw paths",
    CorrectsTheFirstOnly: "corrections can be mixed",
    RemasksEverything: "remasking keeps the other codes",
    PreviewsAreOthers: "predictions are what previews show",
    EncodesInSmallNumbers: "pictures have codes",
    FillsInSecret: "settings name the fill",
    FillsByNumber: "settings name the fill",
    AdjustsItself: "adjusted settings show",
    AdjustsNothing: "adjusted settings show",
    AdjustsAnything: "unknown settings are refused",
    ScoresByChance: "scores are log probabilities",
    ScoresInPercent: "scores are log probabilities",
    TermsAreSums: "steps are scored",
    ScoresWithoutGradient: "gradients reach the weights",
    ScoresUnderOldWeights: "gradients reach the weights",
    CopiesShareWeights: "a copy has its own weights",
    SavesNothing: "saved weights make a folder",
}

# Verifiers ----------------------------------------------------------------------------------------------------------


class LacksBegin:
    settings: ClassVar[dict[str, object]] = {}
    usage = Usage()

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: object = None) -> Tensor:
        return torch.zeros(len(images))


class AnswersInPercent(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question) * 100


class AnswersInColumns(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question)[:, None]


class VerifierSettingsHoldNan(ToyVerifier):
    settings: ClassVar[dict[str, object]] = {"temperature": float("nan")}


class PadsWrongly(ToyVerifier):
    """What is about a short prompt is answered otherwise beside a longer one."""

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        longest = max(len(prompt) for prompt in prompts)
        return super().begin(images, [prompt.ljust(longest) for prompt in prompts], question)


class WantsEveryPrompt(ToyVerifier):
    """One prompt goes with the first image; of the others it knows none."""

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        return super().begin(images, [*prompts, *["nothing"] * (len(images) - len(prompts))], question)


class BeginsOtherwise(ToyVerifier):
    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question, after)
        return answers if question.follows is not None else answers * 0.9


class ForgetsTheFirstTurn(ToyVerifier):
    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        answers = super().ask(images, prompts, question, after)
        return answers if after is None else answers * 0.5


class SharesItsConversations(ToyVerifier):
    """What the images are is kept in `shared`, in the order that they were asked about."""

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        answers, turn = super().begin(images, prompts, question)
        return answers, Conversation(question, {"row": torch.zeros(len(images))}, turn.own)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        if after is None:
            return super().ask(images, prompts, question)
        rows = len(after.own["row"])
        return self._answers(after.shared["bright"][:rows], after.shared["prompt"][:rows], question)


class CountsBatches(ToyVerifier):
    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        before = self.usage
        answers = super()._answers(bright, about, question)
        self.usage = before + Usage(judge_calls=1)
        return answers


class PaintsOverImages(ToyVerifier):
    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        answers = super().begin(images, prompts, question)
        images[:, :, 0, 0] = 0.5
        return answers


class HidesItsThreshold(ToyVerifier):
    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.4

    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright + 0.4 - self.threshold, about, question)


class VerifierRefusesByValueError(ToyVerifier):
    def check_prompt(self, prompt: str) -> None:
        if len(prompt) > 1000:
            raise ValueError("too long")


class ReflectsInWords(ReflectingToy):
    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        return [one.text for one in super().reflect(images, prompts)]  # type: ignore[misc]


class AdvisesWhatIsNot(ToyVerifier):
    advice: ClassVar[dict[str, dict[str, object]]] = {"parm": {"keep": 4}}


class SeesNothing(ToyVerifier):
    """No rule is broken, but the same answer to everything is worth a remark."""

    def _answers(self, bright: Tensor, about: Tensor, question: Question) -> Tensor:
        return super()._answers(bright, about, question) * 0 + 0.5


VERIFIERS: dict[type, str | tuple[str, ...]] = {
    LacksBegin: "it has everything",
    AnswersInPercent: "answers are probabilities",
    AnswersInColumns: "answers are probabilities",
    VerifierSettingsHoldNan: "settings are json and stay",
    PadsWrongly: "an answer is the same in any batch",
    WantsEveryPrompt: "one prompt serves all images",
    BeginsOtherwise: "begin answers as ask",
    ForgetsTheFirstTurn: "a follow up is what it is from scratch",
    SharesItsConversations: "conversations can be selected",
    CountsBatches: "every answer is counted",
    PaintsOverImages: "images are not modified",
    HidesItsThreshold: "settings name what changes answers",
    VerifierRefusesByValueError: "the prompts can be read",
    ReflectsInWords: "reflections are answers",
    AdvisesWhatIsNot: "advice can be followed",
}

# Searches -----------------------------------------------------------------------------------------------------------


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
