"""Curations that draw: labels of prompts' images, and of rejected images that are drawn again."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.curation.corrections import read_corrections
from imagecot.curation.dataset import RankingData
from imagecot.curation.job import Job, Make
from imagecot.curation.judging import requirements
from imagecot.curation.recipes import CurateOrm, CurateParm, CuratePrm, CurateRedraws
from imagecot.curation.schema import MOST_CODES, CorrectionRow
from imagecot.curation.shards import IDENTITY, content
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.metadata import read_prompts
from imagecot.geneval.prompts import refuse_overlap
from imagecot.identity import read_identity
from imagecot.prompts import check_prompts
from imagecot.reading import read_bytes
from imagecot.worlds.find import classes_of, digests, held_out_of, load_judges

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.curation.label import Labeller

Labelling = CurateOrm | CuratePrm | CurateParm
OLD_TEMPERATURE = 1.0  # how folders without settings say that it was the generators' own
_SETTINGS = "settings"  # of who draws, in an identity
_CONTINUATIONS = 4  # of a path of `curate-prm`


@dataclass(frozen=True)
class Drawing:
    """Who draws and who labels, as a recipe says."""

    recipe: Labelling | CurateRedraws

    @property
    def paths(self) -> int:
        """How many are drawn for each prompt."""
        return 1 if isinstance(self.recipe, CuratePrm) else self.recipe.paths

    @property
    def keep(self) -> int:
        """How many of them become rows at most."""
        return 1 if isinstance(self.recipe, CuratePrm) else self.recipe.keep

    @cached_property
    def drawer(self) -> "Generator":
        """The generator, loaded when it is first asked for; UsageError where it cannot draw at the temperature."""
        generator: Generator = registry.load("generator", self.recipe.generator, dtype=self.recipe.precision)
        return at_temperature(generator, self.recipe.generator, self.recipe.temperature)

    def identity(self) -> dict[str, JSON]:
        """All that it draws and labels depends on, to be written in the output or compared with what is there."""
        recipe = self.recipe
        known: dict[str, JSON] = {
            "generator": recipe.generator,
            "weights": registry.digests("generator", recipe.generator),
            "detector": recipe.detector,
            "detector_weights": digests(recipe.detector),
            "paths": self.paths,
            "keep": self.keep,
            "temperature": recipe.temperature,
            "seed": recipe.seed,
            "precision": recipe.precision,
        }
        if registry.is_code("generator", recipe.generator):
            # The digests of checkpoints tell their settings; those of code do not.
            known[_SETTINGS] = dict(self.drawer.settings)
        file = recipe.output / IDENTITY
        if recipe.temperature is None and file.is_file() and _SETTINGS not in read_identity(file):
            known["temperature"] = OLD_TEMPERATURE
        return known

    def load(
        self, prompts: Sequence[str], data: RankingData, before: Sequence[Sequence[int]] | None = None
    ) -> "Labeller":
        """Load who draws and who labels.

        before  codes of images that are drawn again

        UsageError for a prompt that cannot be drawn whole, or a generator that cannot do what is asked; ImagecotError
        for codes that are another generator's.
        """
        from imagecot.curation.label import Labeller

        check_prompts(prompts, self.drawer)
        check_codes(self.drawer, self.recipe.generator, before)
        # What had to be fetched has weights only now.
        data.settle(self.identity() | {_SETTINGS: dict(self.drawer.settings)})
        return Labeller(self.drawer, load_judges(self.recipe.detector)[0], self.paths, self.keep, self.recipe.seed)


def at_temperature(generator: "Generator", name: str, temperature: float | None) -> "Generator":
    """The generator at a temperature, None for its own; UsageError where it has no other."""
    from imagecot.contracts.generator import Adjustable

    if temperature is None or generator.settings.get("temperature") == temperature:
        return generator
    if not isinstance(generator, Adjustable):
        raise UsageError(f"{name} draws at no other temperature than its own; leave out --temperature.")
    return generator.adjusted(temperature=temperature)


def check_codes(generator: "Generator", name: str, before: Sequence[Sequence[int]] | None) -> None:
    """See that the codes of a generator can be kept, and that it can draw again the images of codes `before`.

    UsageError where it cannot; ImagecotError where the codes are another generator's.
    """
    from imagecot.contracts.generator import Corrector

    if generator.canvas.codes > MOST_CODES:
        raise UsageError(
            f"{name} has {generator.canvas.codes:,} codes, and ranking data keep those below {MOST_CODES:,}."
        )
    if before is None:
        return
    if not isinstance(generator, Corrector):
        raise UsageError(f"{name} cannot draw a rejected image again; use a generator that was trained to correct.")
    count, size = generator.canvas.positions, generator.canvas.codes
    if any(len(codes) != count or max(codes) >= size for codes in before):
        raise ImagecotError(
            f"the rejected images are not {count} codes below {size}, as {name} draws them; "
            "use the generator that drew them."
        )


def label_job(recipe: Labelling) -> Job[Metadata]:
    """The labels of images of a file of prompts.

    UsageError for a file that holds no prompts, the same prompt twice, or a test prompt of the detector's world.
    """
    prompts, drawing = recipe.prompts, Drawing(recipe)
    needs = read_prompts(prompts, classes_of(recipe.detector))
    texts = [need.prompt for need in needs]
    refuse_overlap(texts, held_out_of(recipe.detector))
    twice = [text for text, count in Counter(texts).items() if count > 1]
    if twice:
        raise UsageError(f"{prompts} holds the prompt {twice[0][:60]!r} twice, with the same paths; leave one out.")
    digest = hashlib.sha256(read_bytes(prompts, failure=UsageError)).hexdigest()
    kind = recipe.kind.removeprefix("curate-")

    def load(data: RankingData) -> Make[Metadata]:
        labeller = drawing.load(texts, data)
        match recipe:
            case CurateOrm():
                return labeller.orm
            case CuratePrm():
                return labeller.prm
            case CurateParm():
                return labeller.parm

    heat = "" if recipe.temperature is None else f"temperature {recipe.temperature}, "
    return Job(
        out=recipe.output,
        identity={"kind": kind, **drawing.identity(), "prompts_sha256": digest},
        work=needs,
        load=load,
        doing="curating",
        title=f"{kind.upper()} ranking data",
        how=f"Drawn by {recipe.generator} ({heat}seed {recipe.seed}) and labelled by {recipe.detector}.",
        each=_CONTINUATIONS if isinstance(recipe, CuratePrm) else recipe.paths,
    )


def redraw_job(recipe: CurateRedraws) -> Job[CorrectionRow]:
    """The labels of images that are drawn again from prompt, rejected image and reasons of `curate corrections`.

    UsageError for a test prompt; ImagecotError for a group whose metadata are no requirement.
    """
    data, drawing = recipe.data, Drawing(recipe)
    chosen = list(islice(read_corrections(data), recipe.groups))
    if not chosen:
        raise UsageError(f"{data} holds no groups; run imagecot curate corrections first.")
    requirements(chosen, recipe.detector, data)
    texts = [group.prompt for group in chosen]
    refuse_overlap(texts, held_out_of(recipe.detector))
    before = [group.rejected_codes for group in chosen]
    return Job(
        out=recipe.output,
        identity={"kind": "redraws", **drawing.identity(), "data_sha256": content(data), "groups": len(chosen)},
        work=chosen,
        load=lambda under_way: drawing.load(texts, under_way, before).redraws,
        doing="curating",
        title="Redrawn images",
        how=f"The rejected images of {data}, drawn again by {recipe.generator} and labelled by {recipe.detector}.",
        each=recipe.paths,
    )
