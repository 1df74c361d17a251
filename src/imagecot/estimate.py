"""What a recipe takes before anything is run: seconds of each model on one card, and what it leaves on disk.

Counted are the products of weights and tokens, 2 floating-point operations each; training takes three times a forward
pass, four with its activations computed anew. How fast a card does them says `planning.rates`: an A100 of 80 GB is
taken to do 40 % of its 312 TFLOP/s in bfloat16. In raster order every code takes a pass of its own, which reads all
weights and what paths keep of the codes before; where that takes longer at 70 % of 2.04 TB/s than the products, as with
few paths at once, it is what counts. Text encoders and loading are left out. `gpu_hours` leaves out detectors and image
decodes, too; they are small beside generators of a billion parameters and verifiers of 8. Verifiers that are not known
are taken for LLaVA-OneVision 7B. Models that were measured take what they took.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from pydantic import BaseModel

from imagecot.adapters import lineage
from imagecot.errors import ImagecotError
from imagecot.families import FAMILIES, Family
from imagecot.generators.work import Drawing
from imagecot.hub import locate
from imagecot.models import base_config, parameters_of
from imagecot.planning.rates import A100, Card, Measured, Rates
from imagecot.reading import read_lines
from imagecot.recipes import kind_of
from imagecot.verifiers.work import ONE_VIEW, Asking

if TYPE_CHECKING:
    from imagecot.alignment.alignment import Alignment
    from imagecot.alignment.dpo import DpoRecipe
    from imagecot.alignment.iterate import IterativeRecipe
    from imagecot.alignment.self_correction import SelfCorrectionRecipe
    from imagecot.contracts.search import Strategy
    from imagecot.contracts.values import JSON
    from imagecot.curation.recipes import CurateOrm, CurateParm, CuratePrm
    from imagecot.evaluation.recipe import EvaluationRecipe
    from imagecot.reward_models.recipe import FineTuneRecipe
    from imagecot.study.recipe import RowRecipe, SelfCorrection, StudyRecipe
    from imagecot.training.lora import Lora

FLOPS, BANDWIDTH = A100.flops, A100.bandwidth  # operations and bytes a second
# Operations of the decoder of MAGVIT-v2 for a code's 16 x 16 pixels: 1.82 s of 176 GFLOP/s for 256 of them
# (docs/results/benchmark/full.json), and of a Mask2Former with Swin-S for a picture (Cheng et al., 2022, Table 2).
DECODED, READ = 1.82 * 176e9 / 256, 2 * 313e9
VERIFIER = 8.0e9  # parameters of LLaVA-OneVision 7B
FULL_SIZE = 1e8  # weights from which hours of an A100 mean anything
BYTES = 2  # of a number in bfloat16
AT_ONCE = 256  # paths that a search draws together at most
PAIRS, EXAMPLES, PROMPTS = 10_000, 100_000, 10_000  # where the data are not there yet
CONTINUATIONS = 4  # of each step in the data of a PRM
_WIDTH = 4096  # of the matrices of a full-size model
_LOGITS = 2 * 8192 // 2  # numbers a code of a row, in a format of two bytes: its logits in float32
_SHIPPED = ("pictograms", "pictograms-2")  # detectors of a million parameters


class _Unknown(Exception):
    """A model of which nothing tells what it costs, or one that is small."""


@dataclass(frozen=True)
class Effort:
    """What following a recipe takes, in seconds on one card, and what it leaves.

    drawn, judged    of the generator and the verifier
    trained          of gradients, the reference's passes included
    decoded, read    of images made from codes, and of detectors that read them
    images           pictures that are kept, of so many `pixels` each
    codes            paths whose codes are kept
    units            of work; 0 for a training
    steps            of a training; 0 for what is done in units
    shared           examples of a step, of which no process can have less than one
    loaded, trains   parameters of the models, and of those that are moved
    cached           bytes beside the weights: what the paths of a batch keep
    whole            weights of a training that are not moved: frozen ones and a reference of its own
    """

    what: str
    drawn: float = 0.0
    judged: float = 0.0
    trained: float = 0.0
    decoded: float = 0.0
    read: float = 0.0
    images: float = 0.0
    pixels: int = 256**2
    codes: float = 0.0
    units: int = 0
    steps: float = 0.0
    shared: int = 0
    loaded: float = 0.0
    trains: float = 0.0
    whole: float = 0.0
    cached: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it, one after the other."""
        return self.drawn + self.judged + self.trained + self.decoded + self.read


@dataclass(frozen=True)
class _Judge:
    """A verifier: its parameters, the tokens that it reads, and seconds of an answer where they were measured."""

    weights: float
    asking: Asking
    card: Card
    measured: float | None = None

    def seconds(self, tokens: float) -> float:
        """What reading so many tokens takes."""
        if self.measured is not None:
            return self.measured * tokens / self.asking.judged
        return 2 * self.weights * tokens / self.card.flops


@dataclass(frozen=True)
class _Drawer:
    """A generator: its work, and what it was measured to take."""

    work: Drawing
    card: Card
    measured: Measured | None = None

    @property
    def pixels(self) -> int:
        """Of an image, at 16 a code each way."""
        return self.work.codes * 256

    def drawn(self, paths: float, together: float) -> float:
        """Seconds of drawing so many paths, so many of them at once."""
        if self.measured is not None:
            return paths * self.measured.path
        return drawn(self.work, paths, together, self.card)

    def decoded(self, images: float) -> float:
        """Seconds of so many images from their codes."""
        if self.measured is not None:
            return images * self.measured.preview
        return images * DECODED * self.work.codes / self.card.flops

    def cached(self, together: float) -> float:
        """Bytes of what so many paths keep, or of the logits of their codes."""
        per_code = self.work.kept if self.work.kept is not None else _LOGITS
        return together * self.work.rows * (self.work.text + self.work.codes) * per_code * BYTES


def gpu_hours(recipe: BaseModel) -> tuple[float, str] | None:
    """Hours of generator, verifier and training on one A100, and what they are for; None where no `effort` is known."""
    found = effort(recipe, Rates())
    return None if found is None else ((found.drawn + found.judged + found.trained) / 3600, found.what)


def effort(recipe: BaseModel, on: Rates) -> Effort | None:
    """What a recipe takes; None where its models are neither full-size nor measured, or not known.

    Of a search that does not run on models which only count, nobody knows either.
    """
    work = _WORKS.get(kind_of(recipe))
    if work is None:
        return None
    try:
        return work(recipe, on)
    except (ImagecotError, _Unknown):
        return None


def drawing_of(name: str) -> Drawing | None:
    """What a generator costs by the sizes of its folder, an adapter's by its base's, or a released one by its name.

    ImagecotError where its folder cannot be read.
    """
    folder = _folder(name)
    for family in _families("generator", name, folder):
        found: Drawing | None = resolve_name(family.work)(name, folder)
        if found is not None:
            return found
    return None


def _folder(name: str) -> Path | None:
    folder = locate(name)
    return None if folder is None else lineage(folder, locate)[0]


def _families(role: str, name: str, folder: Path | None) -> list[Family]:
    """The families that a model may be of, as far as they say what it costs: by its folder, or any by its name."""
    config = base_config(name) if folder else {}
    return [one for one in FAMILIES[role] if one.work and (one.claims(config) is not False if folder else True)]


def _drawing(on: Rates, *names: str) -> _Drawer:
    """What generators cost, by the first that is known: others are made of it, and perhaps not there yet."""
    found = next(((name, work) for name in names if (work := drawing_of(name)) is not None), None)
    if found is None:
        raise _Unknown
    measured = on.generator(found[0])
    if measured is None and found[1].weights < FULL_SIZE:
        raise _Unknown
    return _Drawer(found[1], on.card, measured)


def _judge(on: Rates, *names: str | None) -> _Judge:
    """What verifiers cost, by the first that is known."""
    for name in filter(None, names):
        weights, measured = parameters_of(name), on.verifier(name)
        if weights or measured is not None:
            folder = _folder(name)
            said = [one for one in _families("verifier", name, folder) if folder or name in one.names]
            asking: Asking = resolve_name(said[0].work) if said else ONE_VIEW
            return _Judge(weights or 0.0, asking, on.card, measured)
    return _Judge(VERIFIER, ONE_VIEW, on.card)


def drawn(work: Drawing, paths: float, together: float, card: Card = A100) -> float:
    """Seconds of drawing so many paths, so many of them at once."""
    rows = paths * work.rows
    products = 2 * work.weights * work.tokens * work.steps * rows / card.flops
    if work.kept is None:
        return products
    before = work.text + work.codes / 2  # the mean of what a code attends to
    read = math.ceil(paths / together) * work.weights + rows * before * work.kept
    return max(products, work.codes * read * BYTES / card.bandwidth)


def _read(on: Rates, images: float, detector: str) -> float:
    """Seconds of a detector that reads so many images; the shipped ones take next to nothing."""
    return 0.0 if detector in _SHIPPED else images * READ / on.card.flops


def _scored(work: Drawing, draws: int = 1) -> float:
    """Operations of a forward pass that gives the log-probability of an image; masks are a pass each."""
    passes, seen = (draws, work.tokens) if work.masked else (1, work.codes)
    return 2 * work.weights * (seen + work.text) * passes


def _training(recompute: bool) -> int:
    return 4 if recompute else 3


def _dpo(recipe: "DpoRecipe", on: Rates) -> Effort:
    reference = recipe.reference not in (None, recipe.base) or recipe.training.lora is None
    return _aligning(recipe.training, _rows(recipe.data) or PAIRS, _drawing(on, recipe.base), on, reference)


def _aligning(settings: "Alignment", pairs: int, drawer: _Drawer, on: Rates, reference: bool = True) -> Effort:
    work, batch = drawer.work, settings.batch_size * settings.accumulate
    steps = settings.steps or settings.epochs * pairs / batch
    trained = _training(settings.gradient_checkpointing) + 1  # and the reference
    flops = on.card.flops
    seconds = steps * batch * 2 * _scored(work, settings.draws) * trained / flops if settings.dpo_weight else 0.0
    what = f"{steps * batch:,.0f} pairs" if settings.dpo_weight else f"{steps:,.0f} steps"
    online, shared = settings.online, batch
    moved = _low_rank(settings.lora, work.weights) if settings.lora else work.weights
    found = Effort(
        what,
        trained=seconds,
        steps=steps,
        shared=shared,
        loaded=work.weights,
        trains=moved,
        whole=work.weights - moved + (work.weights if reference else 0.0),
        pixels=drawer.pixels,
    )
    if not (online and online.weight):
        return found
    paths = steps * online.prompts_a_step * online.group
    judge, asked = _judge(on, online.verifier), 2 if online.reward == "mean" else 1
    return replace(
        found,
        what=f"{what}, {paths:,.0f} paths for rewards",
        drawn=drawer.drawn(paths, online.group),
        judged=paths * judge.seconds(asked * judge.asking.judged),
        trained=seconds + paths * work.rows * _scored(work, online.draws) * trained / flops,
        decoded=drawer.decoded(paths),
        loaded=work.weights + judge.weights,
        shared=min(shared, online.prompts_a_step * settings.accumulate) if settings.dpo_weight else shared,
    )


def _low_rank(lora: "Lora", weights: float) -> float:
    """Parameters of low-rank updates of square matrices of a usual width."""
    return lora.r * 2 * weights / _WIDTH


def _rounds(recipe: "IterativeRecipe", on: Rates) -> Effort:
    prompts, drawer = _lines(recipe.prompts) or PROMPTS, _drawing(on, recipe.base)
    paths = prompts * recipe.paths
    one = _aligning(recipe.training, recipe.pairs or prompts * recipe.per_prompt, drawer, on)
    return replace(
        one,
        what=f"{recipe.rounds} round of {paths:,} paths and {one.what}",
        drawn=recipe.rounds * (one.drawn + drawer.drawn(paths, recipe.paths)),
        judged=recipe.rounds * one.judged,
        trained=recipe.rounds * one.trained,
        decoded=recipe.rounds * (one.decoded + drawer.decoded(paths)),
        read=recipe.rounds * _read(on, paths, recipe.detector),
        images=recipe.rounds * paths,
        steps=recipe.rounds * one.steps,
    )


def _self_correction(recipe: "SelfCorrectionRecipe", on: Rates) -> Effort:
    images, drawer = recipe.optimization.steps * recipe.optimization.batch_size, _drawing(on, recipe.base)
    corrected = images * (1 - recipe.plain_share)
    seen = images + corrected  # the rejected image and the reasons
    return Effort(
        f"{images:,} images",
        trained=seen * _scored(drawer.work) * _training(False) / on.card.flops,
        steps=recipe.optimization.steps,
        shared=recipe.optimization.batch_size,
        loaded=drawer.work.weights,
        trains=drawer.work.weights,
    )


def _fine_tuning(recipe: "FineTuneRecipe", on: Rates) -> Effort:
    judge = _judge(on, recipe.base)
    if not parameters_of(recipe.base) or judge.weights < FULL_SIZE:
        raise _Unknown
    examples = sum(_rows(source.folder) or EXAMPLES for source in recipe.data) * recipe.epochs
    passes, batch = _training(recipe.gradient_checkpointing), recipe.batch_size * recipe.accumulate
    moved = _low_rank(recipe.lora, judge.weights) if recipe.lora else judge.weights
    return Effort(
        f"{examples:,.0f} examples",
        trained=passes * judge.seconds(examples * judge.asking.judged),
        steps=examples / batch,
        shared=batch,
        loaded=judge.weights,
        trains=moved,
        whole=judge.weights - moved,
    )


def _final_images(recipe: "CurateOrm | CurateParm", on: Rates) -> Effort:
    prompts, drawer = _lines(recipe.prompts) or PROMPTS, _drawing(on, recipe.generator)
    paths = prompts * recipe.paths
    kept = prompts * min(recipe.keep, recipe.paths)
    found = _drawn_only(drawer, on, f"{paths:,} paths", paths, recipe.paths, recipe.detector, kept)
    return replace(found, units=_units(prompts, recipe.paths))


def _units(prompts: int, each: int) -> int:
    """Units of a curation."""
    from imagecot.curation.job import UNIT

    return math.ceil(prompts / max(1, UNIT // each))


def _drawn_only(
    drawer: _Drawer, on: Rates, what: str, paths: float, together: int, detector: str, kept: float
) -> Effort:
    return Effort(
        what,
        drawn=drawer.drawn(paths, together),
        decoded=drawer.decoded(paths),
        read=_read(on, paths, detector),
        images=kept,
        pixels=drawer.pixels,
        loaded=drawer.work.weights,
        cached=drawer.cached(min(together, AT_ONCE)),
    )


def _continuations(recipe: "CuratePrm", on: Rates) -> Effort:
    prompts, drawer = _lines(recipe.prompts) or PROMPTS, _drawing(on, recipe.generator)
    # After each step but the last four paths go on to the end: half of the steps on average.
    steps = drawer.work.steps
    ends = prompts * CONTINUATIONS * (steps - 1)
    found = _drawn_only(drawer, on, f"{prompts:,} prompts", ends, CONTINUATIONS, recipe.detector, prompts * steps)
    seconds = drawer.drawn(prompts, 1) + drawer.drawn(ends / 2, CONTINUATIONS)
    return replace(found, drawn=seconds, units=_units(prompts, CONTINUATIONS))


def _geneval(recipe: "EvaluationRecipe", on: Rates) -> Effort:
    from imagecot.evaluation.drawing import Drawing as Draw
    from imagecot.evaluation.job import Job

    job = Job.of(recipe)
    if not isinstance(job.source, Draw):
        raise _Unknown
    named, prompts = job.source.named, len(job.source.prompts)
    drawer, judge = _drawing(on, str(recipe.generator)), _judge(on, named.models.get("verifier"))
    one = _search(named.search, recipe.settings, recipe.budget or recipe.n, drawer, judge)  # type: ignore[arg-type]
    images, judged = prompts * recipe.samples, "verifier" in named.search.needs
    return Effort(
        f"{images:,} images of {prompts:,} prompts",
        drawn=images * one.drawn,
        judged=images * one.judged,
        decoded=images * one.decoded,
        read=_read(on, images, job.detector),
        images=images,
        units=len(job.source.pieces),
        pixels=drawer.pixels,
        loaded=drawer.work.weights + (judge.weights if judged else 0.0),
        cached=drawer.cached(min(recipe.n, AT_ONCE)),
    )


def _study(recipe: "StudyRecipe", on: Rates) -> Effort:
    from imagecot.study.recipe import prompts

    recipe = recipe.resolved()
    n, timed, part = recipe.n, recipe.timed_prompts, recipe.self_correction
    every = len(prompts(recipe.detector, recipe.prompts_per_task, recipe.world)) * recipe.draws
    found = Effort(f"{every} prompts, {len(recipe.rows)} rows")
    names = [*recipe.generators.values(), *([part.correcting_generator] if part else [])]
    for key, name in recipe.generators.items():
        drawer, rows = _drawing(on, name, *names), recipe.rows_of(key).values()
        pool = recipe.pool(key) if rows else 0
        total = _Search(every * drawer.drawn(pool, pool), 0.0, every * drawer.decoded(pool)) if rows else _Search()
        for row in rows:
            asked = len(prompts(recipe.detector, row.prompts_per_task or recipe.prompts_per_task, recipe.world))
            one = _row(row, n, drawer, on)
            total += one.times(asked * recipe.draws, drawn=not row.how.replayed)
            for size in row.sizes(n):
                total += _row(row, size, drawer, on).times(timed)
        found = _with(found, total, drawer, every * pool, _judge(on, *(row.verifier for row in rows)).weights, every)
    if part:
        drawer = _drawing(on, part.correcting_generator, *names)
        found = _with(found, _corrections(part, n, drawer, on).times(every), drawer, every * n, 0.0, every)
    return replace(found, read=_read(on, found.codes, recipe.detector))


def _with(found: Effort, more: "_Search", drawer: _Drawer, paths: float, judge: float, units: int) -> Effort:
    return replace(
        found,
        drawn=found.drawn + more.drawn,
        judged=found.judged + more.judged,
        decoded=found.decoded + more.decoded,
        codes=found.codes + paths,
        units=found.units + (units if paths else 0),
        pixels=drawer.pixels,
        loaded=max(found.loaded, drawer.work.weights + judge),
        cached=max(found.cached, drawer.cached(AT_ONCE)),
    )


@dataclass(frozen=True)
class _Search:
    """Seconds of a search: what the generator takes, the verifier at most, and previews."""

    drawn: float = 0.0
    judged: float = 0.0
    decoded: float = 0.0

    def __add__(self, other: "_Search") -> "_Search":
        return _Search(self.drawn + other.drawn, self.judged + other.judged, self.decoded + other.decoded)

    def times(self, count: float, *, drawn: bool = True) -> "_Search":
        """Of so many searches; without `drawn`, on paths that there are."""
        return _Search(count * self.drawn * drawn, count * self.judged, count * self.decoded)


def _row(row: "RowRecipe", n: int, drawer: _Drawer, on: Rates) -> _Search:
    return _search(row.how.strategy, row.options, n, drawer, _judge(on, row.verifier))


def _corrections(asked: "SelfCorrection", n: int, drawer: _Drawer, on: Rates) -> _Search:
    """A prompt in the study of reflection: both verifiers on n paths, and what is drawn beside them."""
    from imagecot.strategies.parm import Parm
    from imagecot.strategies.parm_plus_plus import ParmPlusPlus
    from imagecot.study.self_correction import ROUNDED

    judge = _judge(on, asked.parm, asked.orm)
    plain, corrected, more = (
        _search(search, asked.options, count, drawer, judge)
        for search, count in ((Parm(), n), (ParmPlusPlus(), n), (Parm(), asked.more_paths))
    )
    rounds = corrected + plain.times(-1)
    return _Search(0.0, 2 * plain.judged) + rounds.times(len(ROUNDED)) + more


def _search(strategy: "Strategy", options: "Mapping[str, JSON]", n: int, drawer: _Drawer, judge: _Judge) -> _Search:
    """Seconds of a search over n paths."""
    from imagecot.strategies.dry_run import Sizes, dry_run

    work = drawer.work
    cost = dry_run(strategy, options, n, Sizes(work.steps, work.rows, judge.asking.judged, judge.asking.follow_up))
    paths = cost.generator_rows / (work.steps * work.rows)
    together = max(1, min(strategy.paths(n), AT_ONCE))
    return _Search(
        drawer.drawn(paths, together), judge.seconds(cost.tokens_judged), drawer.decoded(max(1, cost.previews))
    )


def _rows(folder: Path | None) -> int:
    """The rows of a curated folder; 0 where it is not there or cannot be read."""
    if folder is None:
        return 0
    from pyarrow import parquet

    try:
        return sum(parquet.read_metadata(file).num_rows for file in sorted(Path(folder).glob("data/*.parquet")))
    except (OSError, ValueError):  # damaged: who follows the recipe is told
        return 0


def _lines(file: Path) -> int:
    try:
        return sum(1 for _ in read_lines(Path(file)))
    except ImagecotError:
        return 0


_WORKS: "Mapping[str, Callable[..., Effort]]" = {
    "geneval": _geneval,
    "dpo": _dpo,
    "iterative-dpo": _rounds,
    "self-correction": _self_correction,
    "reward-model": _fine_tuning,
    "study": _study,
    "curate-orm": _final_images,
    "curate-parm": _final_images,
    "curate-prm": _continuations,
}
