"""The images of an evaluation that draws: how they are drawn, a unit of prompts at a time, and what defines them."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imagecot import registry
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.search import InRounds
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.evaluation.folder import write_entry
from imagecot.evaluation.state import IMAGES, Evaluation, Piece, pieces, settings_of, spread_pieces
from imagecot.files import make_own_folder
from imagecot.images import from_picture
from imagecot.strategies.defaults import load_model
from imagecot.strategies.options import told

if TYPE_CHECKING:
    from imagecot.contracts.search import Cost
    from imagecot.strategies.defaults import Models as Drawers
    from imagecot.strategies.defaults import Named

_PROMPTS_A_UNIT = 8
_PROMPTS_IN_ROUNDS = 64  # whose late rounds are small, and share a batch
_PROMPTS_A_BUDGET = 32


@dataclass(frozen=True)
class Drawing:
    """How the images of an evaluation are drawn: `samples` a prompt, each the choice of a search over `n` paths.

    budget  paths a search on average, which those of a unit share; None for `n` each
    """

    prompts: list[Metadata]
    samples: int
    named: "Named"
    n: int
    seed: int
    budget: int | None = None

    @property
    def pieces(self) -> list[Piece]:
        """The units of the work: several prompts where they share batches or a budget."""
        count = len(self.prompts)
        if self.budget is not None:
            return spread_pieces(count, _PROMPTS_A_BUDGET)
        if self.named.paths(self.n) == 1:
            return pieces(count, _PROMPTS_A_UNIT)
        in_rounds = isinstance(self.named.search, InRounds)
        return spread_pieces(count, _PROMPTS_IN_ROUNDS) if in_rounds else pieces(count, 1)

    def load(self, precision: str | None) -> "Drawers":
        """Load who draws, and who verifies where the search needs anybody."""
        used = {role: name for role, name in self.named.models.items() if role != "verifier" or self._verified}
        return replace(self.named, models=used).load(precision)

    @property
    def _verified(self) -> bool:
        return "verifier" in self.named.search.needs


@dataclass(frozen=True)
class Drawn:
    """The images (B, 3, H, W) of a unit, 8-bit levels in [0, 1]; of each its file and its prompt, and what all cost."""

    images: Tensor
    files: list[str]
    metadata: list[Metadata]
    cost: dict[str, int | float]


def settings_of_drawers(drawers: "Drawers | None") -> dict[str, JSON]:
    """How those draw and verify that do, beside their weights: entries of the identity."""
    if drawers is None:
        return {}
    roles = {"generator": drawers.generator, "verifier": drawers.verifier, "corrector": drawers.corrector}
    return {settings_of(role): dict(model.settings) for role, model in roles.items() if model is not None}


def check_drawing(drawing: Drawing, drawers: "Drawers") -> None:
    """Raise UsageError where a prompt cannot be drawn or judged, or the models cannot do what the search needs."""
    from imagecot.promises import TAKEN
    from imagecot.prompts import check_prompts
    from imagecot.strategies.request import Request

    texts = [metadata.prompt for metadata in drawing.prompts]
    check_prompts(texts, drawers.generator, drawers.verifier, drawers.corrector)
    taken = sorted(TAKEN.intersection(drawing.named.given))
    if taken:
        raise UsageError(f"an evaluation cannot set {taken[0]} of a search; leave it out.")
    named, models = drawing.named, (drawers.generator, drawers.verifier)
    for text in texts:
        Request(text, *models, named.strategy, drawing.n, drawing.seed, named.given, drawers.corrector)


def check_budget(drawing: Drawing) -> None:
    """Raise UsageError for a budget of a search that draws no rounds, or of more paths than it may take."""
    if drawing.budget is None:
        return
    named = drawing.named
    if not isinstance(named.search, InRounds):
        raise UsageError(f"{named.strategy} draws no rounds, so it shares no budget; search with adaptive.")
    if drawing.budget > named.paths(drawing.n):
        raise UsageError(
            f"a budget of {drawing.budget} paths a search is more than the {named.paths(drawing.n)} that each may "
            "take; lower it, or raise n."
        )


def draw(drawing: Drawing, piece: Piece, drawers: "Drawers", state: Evaluation) -> Drawn:
    """Draw and write the images of a unit's prompts."""
    from imagecot.contracts.randomness import path_seeds, prompt_seed

    prompts = [drawing.prompts[number] for number in piece.numbers]
    began = time.perf_counter()
    seeds = [path_seeds(prompt_seed(drawing.seed, m.prompt), drawing.samples) for m in prompts]
    images, cost = _search(drawing, prompts, seeds, drawers)
    spent = asdict(cost) | {"seconds": time.perf_counter() - began}
    state.begin()
    make_own_folder(state.out / IMAGES)
    names: list[str] = []
    for k, (number, metadata) in enumerate(zip(piece.numbers, prompts, strict=True)):
        part = images[k * drawing.samples : (k + 1) * drawing.samples]
        files = write_entry(state.out / IMAGES / f"{number:05d}", metadata, part)
        names += [str(Path(file).relative_to(state.out)) for file in files]
    return Drawn(images, names, [m for m in prompts for _ in range(drawing.samples)], spent)


def _search(
    drawing: Drawing, prompts: Sequence[Metadata], seeds: list[Tensor], drawers: "Drawers"
) -> tuple[Tensor, "Cost"]:
    """Return the chosen images (B, 3, H, W), 8-bit levels in [0, 1], and what they cost."""
    from imagecot.contracts.search import Cost
    from imagecot.strategies.many import search_many

    traces = search_many(
        [metadata.prompt for metadata in prompts for _ in range(drawing.samples)],
        torch.cat(seeds).tolist(),
        generator=drawers.generator,
        verifier=drawers.verifier,
        strategy=drawing.named.strategy,
        n=drawing.n,
        corrector=drawers.corrector,
        of_paths=True,
        budget=drawing.budget,
        **drawing.named.given,
    )
    cost = sum((trace.cost for trace in traces), Cost())
    return torch.stack([from_picture(trace.image) for trace in traces]), cost


def identity_of(drawing: Drawing) -> dict[str, JSON]:
    """What an identity says of how images are drawn, but for weights and settings."""
    text, named = "\n".join(metadata.text for metadata in drawing.prompts), drawing.named
    corrector = {"corrector": named.models["corrector"]} if "corrector" in named.models else {}
    budget = {"budget": drawing.budget} if drawing.budget is not None else {}
    return {
        "generator": named.models["generator"],
        "verifier": named.models.get("verifier"),
        **corrector,
        "search": named.strategy,
        "n": named.paths(drawing.n),
        **budget,
        "seed": drawing.seed,
        "prompts": len(drawing.prompts),
        "prompts_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def identity_of_settings(drawing: Drawing, precision: str | None) -> dict[str, JSON]:
    """What an identity says of the settings of the search, given and advised, and of models that are others' code."""
    search = told(drawing.named.settings())
    # Those of a checkpoint follow from its digests; other people's code has to be asked.
    code: Mapping[str, str] = {
        role: name for role, name in drawing.named.models.items() if registry.is_code(role, name)
    }
    found: dict[str, JSON] = {settings_of("search"): search} if search else {}
    return found | {settings_of(role): dict(load_model(role, name, precision).settings) for role, name in code.items()}
