"""What models cost before anything is run: seconds on one card of drawing, judging, scoring and decoding.

Counted are the products of weights and tokens, 2 floating-point operations each; training takes three times a forward
pass, four with its activations computed anew. How fast a card does them says `planning.rates`: an A100 of 80 GB is
taken to do 40 % of its 312 TFLOP/s in bfloat16. In raster order every code takes a pass of its own, which reads all
weights and what paths keep of the codes before; where that takes longer at 70 % of 2.04 TB/s than the products, as with
few paths at once, it is what counts. Text encoders and loading are left out.  Verifiers that are not known
are taken for LLaVA-OneVision 7B. Models that were measured take what they took.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from imagecot.adapters import lineage
from imagecot.families import FAMILIES, Family
from imagecot.generators.work import Drawing
from imagecot.hub import locate
from imagecot.models import base_config, parameters_of
from imagecot.planning.rates import A100, Card, Measured, Rates
from imagecot.verifiers.work import ONE_VIEW, Asking

if TYPE_CHECKING:
    from imagecot.contracts.search import Strategy
    from imagecot.contracts.values import JSON
    from imagecot.training.lora import Lora

FLOPS, BANDWIDTH = A100.flops, A100.bandwidth  # operations and bytes a second
# Operations of the decoder of MAGVIT-v2 for a code's 16 x 16 pixels: 1.82 s of 176 GFLOP/s for 256 of them
# (docs/results/benchmark/full.json), and of a Mask2Former with Swin-S for a picture (Cheng et al., 2022, Table 2).
DECODED, READ = 1.82 * 176e9 / 256, 2 * 313e9
VERIFIER = 8.0e9  # parameters of LLaVA-OneVision 7B
FULL_SIZE = 1e8  # weights from which hours of an A100 mean anything
BYTES = 2  # of a number in bfloat16
AT_ONCE = 256  # paths that a search draws together at most
_WIDTH = 4096  # of the matrices of a full-size model
_LOGITS = 2 * 8192  # numbers a code of a row, in a format of two bytes: its logits in float32


class Unknown(Exception):
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
class Judge:
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
class Drawer:
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


def drawing(on: Rates, *names: str) -> Drawer:
    """What generators cost, by the first that is known: others are made of it, and perhaps not there yet."""
    found = next(((name, work) for name in names if (work := drawing_of(name)) is not None), None)
    if found is None:
        raise Unknown
    measured = on.generator(found[0])
    if measured is None and found[1].weights < FULL_SIZE:
        raise Unknown
    return Drawer(found[1], on.card, measured)


def judge_of(on: Rates, *names: str | None) -> Judge:
    """What verifiers cost, by the first that is known."""
    for name in filter(None, names):
        weights, measured = parameters_of(name), on.verifier(name)
        if weights or measured is not None:
            folder = _folder(name)
            said = [one for one in _families("verifier", name, folder) if folder or name in one.names]
            asking: Asking = resolve_name(said[0].work) if said else ONE_VIEW
            return Judge(weights or 0.0, asking, on.card, measured)
    return Judge(VERIFIER, ONE_VIEW, on.card)


def drawn(work: Drawing, paths: float, together: float, card: Card = A100) -> float:
    """Seconds of drawing so many paths, so many of them at once."""
    rows = paths * work.rows
    products = 2 * work.weights * work.tokens * work.steps * rows / card.flops
    if work.kept is None:
        return products
    before = work.text + work.codes / 2  # the mean of what a code attends to
    read = math.ceil(paths / together) * work.weights + rows * before * work.kept
    return max(products, work.codes * read * BYTES / card.bandwidth)


def read_seconds(on: Rates, images: float, weights: float) -> float:
    """Seconds of a detector that reads so many images; those of small generators' worlds take next to nothing.

    weights  of who draws them
    """
    return 0.0 if weights < FULL_SIZE else images * READ / on.card.flops


def scored(work: Drawing, draws: int = 1) -> float:
    """Operations of a forward pass that gives the log-probability of an image; masks are a pass each."""
    passes, seen = (draws, work.tokens) if work.masked else (1, work.codes)
    return 2 * work.weights * (seen + work.text) * passes


def passes_of_training(recompute: bool) -> int:
    """How many forward passes a gradient takes as long as."""
    return 4 if recompute else 3


def low_rank(lora: "Lora", weights: float) -> float:
    """Parameters of low-rank updates of square matrices of a usual width."""
    return lora.r * 2 * weights / _WIDTH


@dataclass(frozen=True)
class Search:
    """Seconds of a search: what the generator takes, the verifier at most, and previews."""

    drawn: float = 0.0
    judged: float = 0.0
    decoded: float = 0.0

    def __add__(self, other: "Search") -> "Search":
        return Search(self.drawn + other.drawn, self.judged + other.judged, self.decoded + other.decoded)

    def times(self, count: float, *, drawn: bool = True) -> "Search":
        """Of so many searches; without `drawn`, on paths that there are."""
        return Search(count * self.drawn * drawn, count * self.judged, count * self.decoded)


def search_costs(strategy: "Strategy", options: "Mapping[str, JSON]", n: int, drawer: Drawer, judge: Judge) -> Search:
    """Seconds of a search over n paths."""
    from imagecot.strategies.dry_run import Sizes, dry_run

    work = drawer.work
    cost = dry_run(strategy, options, n, Sizes(work.steps, work.rows, judge.asking.judged, judge.asking.follow_up))
    paths = cost.generator_rows / (work.steps * work.rows)
    together = max(1, min(strategy.paths(n), AT_ONCE))
    return Search(
        drawer.drawn(paths, together), judge.seconds(cost.tokens_judged), drawer.decoded(max(1, cost.previews))
    )
