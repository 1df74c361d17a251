"""Reflection and self-correction on held-out prompts: the paper's Table 5, and the controls that reflection must beat.

All rows draw with the self-correcting generator and from the same recorded paths, so that comparisons are paired. The
controls leave out the reasons, exchange them for those of another prompt, leave out the rejected image, or spend the
time on more paths of PARM. Finished prompts are kept on disk and never redone.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.search import Candidate
from imagecot.errors import UsageError
from imagecot.images import from_picture
from imagecot.reflection.discrepancies import described, from_reason, understood
from imagecot.strategies.best_of_n import BestOfN
from imagecot.strategies.parm import Parm
from imagecot.strategies.parm_plus_plus import ROUNDS, ParmPlusPlus, Telling, codes_of, correct
from imagecot.strategies.request import Request
from imagecot.strategies.run import Run
from imagecot.strategies.search import carry_out
from imagecot.strategies.single import Single
from imagecot.strategies.trace import ranked
from imagecot.study.models import Judges, Models
from imagecot.study.recipe import SelfCorrection, StudyRecipe, prompts, shuffled
from imagecot.study.recorded import Recorded, record
from imagecot.study.rows import Arm, Counts, SelfCorrectionRow
from imagecot.study.store import Store, in_turn
from imagecot.study.timing import Timed
from imagecot.study.ways import CONTROLS, Rejected, Way, everything, in_words

WITH, WITHOUT = "parm++_with_reflection", "parm++_without_reflection"
LABELS = {
    "no_verifier": "single path",
    "orm_fine_tuned": "ORM",
    "parm": "PARM",
    WITHOUT: "PARM++ without reflection",
    WITH: "PARM++ with reflection",
    "more_paths": "control: more paths instead",
    "without_reasons": "control: no reasons",
    "shuffled_reasons": "control: another prompt's reasons",
    "without_image": "control: no rejected image",
    "prompt_alone": "control: neither image nor reasons",
    "written_reasons": "reasons as the verifier writes them",
    "scorer_reasons": "the scorer's own reasons",
}
ROUNDED: Mapping[str, Way] = {WITH: everything, **CONTROLS}


@dataclass(frozen=True)
class Work:
    """Table 5 of a study, and what draws and judges for it."""

    recipe: StudyRecipe
    part: SelfCorrection
    models: Models
    judges: Judges

    @property
    def reflecting(self) -> Reflector:
        """The verifier that reflects, as `check` has made sure."""
        verifier = self.models.verifiers[self.part.parm_plus_plus]
        assert isinstance(verifier, Reflector)
        return verifier


def verifiers_of(part: SelfCorrection) -> set[str]:
    """The names of all verifiers of the study."""
    return {part.orm, part.parm, part.parm_plus_plus}


def shuffled_prompts(recipe: StudyRecipe) -> list[Metadata]:
    """The prompts of Table 5 in their order."""
    return shuffled(prompts(recipe.detector, recipe.prompts_per_task, recipe.world), recipe.seed)


def check(part: SelfCorrection, models: Models, prompts: Sequence[str]) -> None:
    """Raise UsageError for what the models cannot do."""
    verifier = models.verifiers[part.parm_plus_plus]
    if not isinstance(verifier, Reflector):
        raise UsageError(f"{part.parm_plus_plus} writes no reasons, which a row of Table 5 tells; name one that does.")
    for prompt in prompts[:1]:
        Request(prompt, models.generator, verifier, ParmPlusPlus(), 1, 0, options=part.options)


def observe(work: Work, store: Store[SelfCorrectionRow], done: Callable[[], object]) -> None:
    """Add the rows that `store` lacks, one a prompt: the judges' verdicts on what every row of the table chose."""
    every = shuffled_prompts(work.recipe)

    def make(number: int, rows: Mapping[int, SelfCorrectionRow]) -> SelfCorrectionRow:
        return observe_prompt(work, number, every[number], rows[number - 1].reasons if number else "")

    in_turn(store, len(every), make, done)


def observe_prompt(work: Work, number: int, metadata: Metadata, other: str) -> SelfCorrectionRow:
    """Draw one prompt's paths once and let every row of the table choose; `other` are another prompt's reasons."""
    began = time.time()
    recipe, prompt = work.recipe, metadata.prompt
    seeds = path_seeds(prompt_seed(recipe.seed, prompt), max(recipe.n, work.part.more_paths))
    recorded = record(work.models.generator, prompt, seeds)
    arms = {one.name: _chosen(work, metadata, recorded, one) for one in searches(recipe, work.part)}
    rounds = _rounds(work, metadata, recorded, other)
    return SelfCorrectionRow(
        number=number,
        metadata=metadata,
        arms={**arms, **rounds.arms},
        said=[described(reflection) for reflection in rounds.said],
        reasons=rounds.said[0].reasons or other,
        understood=understood(rounds.said[0]),
        true=from_reason(metadata, rounds.truth),
        began=began,
        ended=time.time(),
    )


def _chosen(work: Work, metadata: Metadata, recorded: Recorded, one: Timed) -> Arm:
    """What a row without rounds chose."""
    models, seed = replace(work.models, generator=recorded), prompt_seed(work.recipe.seed, metadata.prompt)
    trace = carry_out(models.request(metadata.prompt, one, one.sizes[0], seed))
    return Arm(correct=work.judges.right(trace.image, metadata), cost=Counts.of(trace.cost))


@dataclass(frozen=True)
class Rounds:
    """What became of the rounds of a prompt: the rows with rounds, and of reflection what was said and what is true.

    said   the reflections in turn, that on the first choice first
    truth  the scorer's reason for that choice
    """

    arms: dict[str, Arm]
    said: list[Reflection]
    truth: str


def _rounds(work: Work, metadata: Metadata, recorded: Recorded, other: str) -> Rounds:
    """The rounds start from the choice without reflection; each control redraws from the same candidates."""
    recipe, part, judges = work.recipe, work.part, work.judges
    verifier, seed = work.models.verifiers[part.parm_plus_plus], prompt_seed(recipe.seed, metadata.prompt)
    request = Request(metadata.prompt, recorded, verifier, ParmPlusPlus(), recipe.n, seed, options=part.options)
    first = Run(request)
    choice = Parm().choose(first)
    candidates, best = [*choice.candidates], choice.index
    truth = judges.look_at(_image(candidates[best]), metadata)[0].reason

    def see(rejected: Candidate) -> str:
        return in_words(metadata, judges.look_at(_image(rejected), metadata)[0].reason, rejected.seed)

    def write(rejected: Candidate) -> str:
        return work.reflecting.reflect(from_picture(_image(rejected))[None], [metadata.prompt])[0].reasons

    arms: dict[str, Arm] = {}
    said: list[Reflection] = []
    for name, tell in tellings(other, see, write).items():
        run = Run(request)
        found = copy.deepcopy(candidates)
        correct(run, found, best, tell)
        by_round = [judges.right(_best(found, number), metadata) for number in range(ROUNDS + 1)]
        arms[name] = Arm(
            correct=by_round[-1],
            cost=Counts.of(first.cost + run.cost),
            by_round=by_round,
            redrawn=[judges.right(_image(candidate), metadata) for candidate in found if candidate.round == 1],
        )
        if name == WITH:
            said = [one.reflection for one in found if one.reflection is not None]
    return Rounds(arms, said, truth)


def tellings(other: str, see: Callable[[Candidate], str], write: Callable[[Candidate], str]) -> dict[str, Telling]:
    """What the generator is told with reflection and in the controls; the arguments are as of `Rejected`."""

    def telling(way: Way) -> Telling:
        return lambda one, reflection: way(
            Rejected(codes_of(one), reflection.reasons, lambda: see(one), lambda: write(one), other)
        )

    return {name: telling(way) for name, way in ROUNDED.items()}


def misfit(row: SelfCorrectionRow, judges: int) -> str | None:
    """Say what a stored prompt lacks that the table needs; None where nothing is missing."""
    if row.arms.keys() != LABELS.keys():
        return f"arms are not {', '.join(LABELS)}"
    if not row.said:
        return "said is empty"
    for name, arm in row.arms.items():
        if len(arm.correct) != judges:
            return f"arms.{name}: correct is not of {judges} judges"
        if name in ROUNDED and (len(arm.by_round or []) != ROUNDS + 1 or arm.redrawn is None):
            return f"arms.{name}: by_round is not of {ROUNDS} rounds, or redrawn is missing"
    return None


def searches(recipe: StudyRecipe, part: SelfCorrection) -> list[Timed]:
    """The rows without rounds."""
    return [
        Timed("no_verifier", Single(), None, [1]),
        Timed("orm_fine_tuned", BestOfN(), part.orm, [recipe.n]),
        Timed("parm", Parm(), part.parm, [recipe.n], part.options),
        Timed(WITHOUT, Parm(), part.parm_plus_plus, [recipe.n], part.options),
        Timed("more_paths", Parm(), part.parm_plus_plus, [part.more_paths], part.options),
    ]


def timed(recipe: StudyRecipe, part: SelfCorrection) -> list[Timed]:
    """The rows whose seconds are measured: the controls take as long as reflection does."""
    rounds = Timed(WITH, ParmPlusPlus(), part.parm_plus_plus, [recipe.n], part.options)
    return [*searches(recipe, part), rounds]


def _best(candidates: list[Candidate], rounds: int) -> Image.Image:
    """The image that would have been returned after so many rounds."""
    return _image(next(candidates[i] for i in ranked(candidates) if candidates[i].round <= rounds))


def _image(candidate: Candidate) -> Image.Image:
    assert candidate.image is not None
    return candidate.image
