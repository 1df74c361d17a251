"""Curations that draw: labels of prompts' images, and of rejected images that are drawn again."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagecot import registry
from imagecot.bounds import MOST_IMAGES, MOST_PATHS, check_seed, check_whole
from imagecot.curation.corrections import read_corrections
from imagecot.curation.dataset import IDENTITY, SETTINGS, RankingData, Row, content
from imagecot.curation.job import Job, Make
from imagecot.curation.judging import requirements
from imagecot.curation.schema import MOST_CODES
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.metadata import read_prompts
from imagecot.geneval.prompts import refuse_overlap
from imagecot.identity import read_identity
from imagecot.precision import check_precision
from imagecot.prompts import check_prompts
from imagecot.reading import read_bytes
from imagecot.worlds.find import classes_of, digests, held_out_of, load_judges

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.curation.label import Labeller

Kind = Literal["orm", "prm", "parm"]
MOST_TEMPERATURE = 100.0
OLD_TEMPERATURE = 1.0  # how folders without settings say that it was the generators' own
_CONTINUATIONS = 4  # of a path of `prm`


@dataclass(frozen=True)
class Drawing:
    """Who draws and who labels, and how.

    paths        drawn for each prompt; `keep` of them at most become rows
    temperature  strength of the decoding noise; None for the generator's own

    UsageError for a number that is none or out of bounds, or an unknown precision.
    """

    generator: str = "tiny"
    detector: str = "pictograms"
    paths: int = 20
    keep: int = 20
    temperature: float | None = None
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        check_whole(self.paths, "paths", 1, MOST_PATHS)
        check_whole(self.keep, "keep", 1, MOST_IMAGES)
        check_seed(self.seed)
        if self.temperature is not None:
            check_temperature(self.temperature)
        check_precision(self.precision)

    @cached_property
    def drawer(self) -> "Generator":
        """The generator, loaded when it is first asked for; UsageError where it cannot draw at the temperature."""
        generator: Generator = registry.load("generator", self.generator, dtype=self.precision)
        return at_temperature(generator, self.generator, self.temperature)

    def identity(self, out: Path) -> Row:
        """All that it draws and labels depends on, to be written in a folder or compared with what is there."""
        known: Row = {
            "generator": self.generator,
            "weights": registry.digests("generator", self.generator),
            "detector": self.detector,
            "detector_weights": digests(self.detector),
            "paths": self.paths,
            "keep": self.keep,
            "temperature": self.temperature,
            "seed": self.seed,
            "precision": self.precision,
        }
        if registry.is_code("generator", self.generator):
            known |= {
                SETTINGS: dict(self.drawer.settings)
            }  # the digests of checkpoints tell them; those of code do not
        file = out / IDENTITY
        if self.temperature is None and file.is_file() and SETTINGS not in read_identity(file):
            known |= {"temperature": OLD_TEMPERATURE}
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
        check_codes(self.drawer, self.generator, before)
        # What had to be fetched has weights only now.
        data.settle(self.identity(data.out) | {SETTINGS: dict(self.drawer.settings)})
        return Labeller(self.drawer, load_judges(self.detector)[0], self.paths, self.keep, self.seed)


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


def check_temperature(value: object) -> float:
    """Return a temperature; UsageError for anything but a finite number from 0 to MOST_TEMPERATURE."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"the temperature must be a number, not {repr(value)[:40]}.")
    if not (math.isfinite(value) and 0 <= value <= MOST_TEMPERATURE):
        raise UsageError(f"the temperature must be a number from 0 to {MOST_TEMPERATURE:g}, not {value}.")
    return float(value)


def label_job(kind: Kind, prompts: Path, out: Path, drawing: Drawing) -> Job:
    """The labels of images of a file of prompts.

    UsageError for a file that holds no prompts, the same prompt twice, or a test prompt of the detector's world.
    """
    requirements = read_prompts(prompts, classes_of(drawing.detector))
    texts = [metadata.prompt for metadata in requirements]
    refuse_overlap(texts, held_out_of(drawing.detector))
    twice = [text for text, count in Counter(texts).items() if count > 1]
    if twice:
        raise UsageError(f"{prompts} holds the prompt {twice[0][:60]!r} twice, with the same paths; leave one out.")
    digest = hashlib.sha256(read_bytes(prompts, failure=UsageError)).hexdigest()

    def load(data: RankingData) -> Make:
        labeller = drawing.load(texts, data)
        methods: dict[Kind, Make] = {"orm": labeller.orm, "prm": labeller.prm, "parm": labeller.parm}
        return methods[kind]

    heat = "" if drawing.temperature is None else f"temperature {drawing.temperature}, "
    return Job(
        out=out,
        identity={"kind": kind, **drawing.identity(out), "prompts_sha256": digest},
        work=requirements,
        load=load,
        title=f"{kind.upper()} ranking data",
        how=f"Drawn by {drawing.generator} ({heat}seed {drawing.seed}) and labelled by {drawing.detector}.",
        each=_CONTINUATIONS if kind == "prm" else drawing.paths,
    )


def redraw_job(data: Path, out: Path, groups: int, drawing: Drawing) -> Job:
    """The labels of images that are drawn again from prompt, rejected image and reasons of `curate corrections`.

    groups  rejected images at most

    UsageError for a test prompt; ImagecotError for a group whose metadata are no requirement.
    """
    check_whole(groups, "groups", 1, MOST_IMAGES)
    chosen = list(islice(read_corrections(data), groups))
    if not chosen:
        raise UsageError(f"{data} holds no groups; run imagecot curate corrections first.")
    requirements(chosen, drawing.detector, data)
    texts = [str(group["prompt"]) for group in chosen]
    refuse_overlap(texts, held_out_of(drawing.detector))
    before = [group["rejected_codes"] for group in chosen]
    return Job(
        out=out,
        identity={"kind": "redraws", **drawing.identity(out), "data_sha256": content(data), "groups": len(chosen)},
        work=chosen,
        load=lambda under_way: drawing.load(texts, under_way, before).redraws,
        title="Redrawn images",
        how=f"The rejected images of {data}, drawn again by {drawing.generator} and labelled by {drawing.detector}.",
        each=drawing.paths,
    )
