"""Curations that draw: labels of prompts' images, and of rejected images that are drawn again."""

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagecot import models as names
from imagecot.bounds import MOST_IMAGES, MOST_PATHS, check_seed, check_whole
from imagecot.curation.corrections import read_corrections
from imagecot.curation.dataset import RankingData, Row, content
from imagecot.curation.job import Job, Make
from imagecot.curation.judging import requirements, weights_of_detector
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.metadata import read_prompts
from imagecot.geneval.prompts import refuse_overlap
from imagecot.precision import check_precision
from imagecot.prompts import check_prompts
from imagecot.reading import read_bytes
from imagecot.worlds.choice import classes_of, detectors, held_out_of

if TYPE_CHECKING:
    from imagecot.curation.label import Labeller

Kind = Literal["orm", "prm", "parm"]
MOST_TEMPERATURE = 100.0
_CONTINUATIONS = 4  # of a path of `prm`


@dataclass(frozen=True)
class Drawing:
    """Who draws and who labels, and how.

    paths        drawn for each prompt; `keep` of them at most become rows
    temperature  strength of the decoding noise

    UsageError for a number that is none or out of bounds, or an unknown precision.
    """

    generator: str = "tiny"
    detector: str = "pictograms"
    paths: int = 20
    keep: int = 20
    temperature: float = 1.0
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        check_whole(self.paths, "paths", 1, MOST_PATHS)
        check_whole(self.keep, "keep", 1, MOST_IMAGES)
        check_seed(self.seed)
        check_temperature(self.temperature)
        check_precision(self.precision)

    def identity(self) -> Row:
        """All that it draws and labels depends on."""
        return {
            "generator": self.generator,
            "weights": names.weights_of("generator", self.generator),
            "detector": self.detector,
            "detector_weights": weights_of_detector(self.detector),
            "paths": self.paths,
            "keep": self.keep,
            "temperature": self.temperature,
            "seed": self.seed,
            "precision": self.precision,
        }

    def load(self, prompts: Sequence[str], data: RankingData, before: Sequence[Sequence[int]] = ()) -> "Labeller":
        """Load who draws and who labels.

        before  codes of images that are drawn again

        UsageError for a prompt that cannot be drawn whole; ImagecotError for codes that are another generator's.
        """
        from imagecot.curation.label import Labeller
        from imagecot.generators import load_generator

        loaded = load_generator(self.generator, dtype=self.precision)
        check_prompts(prompts, loaded)
        count, size = loaded.model.config.num_vq_tokens, loaded.model.config.codebook_size
        if any(len(codes) != count or max(codes) >= size for codes in before):
            raise ImagecotError(
                f"the rejected images are not {count} codes below {size}, as {self.generator} draws them; "
                "use the generator that drew them."
            )
        model = dataclasses.replace(loaded, temperature=self.temperature)
        data.identity |= self.identity()  # what had to be fetched has weights only now
        return Labeller(model, detectors(self.detector)[0], self.paths, self.keep, self.seed)


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
    texts = [str(metadata["prompt"]) for metadata in requirements]
    refuse_overlap(texts, held_out_of(drawing.detector))
    twice = [text for text, count in Counter(texts).items() if count > 1]
    if twice:
        raise UsageError(f"{prompts} holds the prompt {twice[0][:60]!r} twice, with the same paths; leave one out.")
    digest = hashlib.sha256(read_bytes(prompts, failure=UsageError)).hexdigest()

    def load(data: RankingData) -> Make:
        labeller = drawing.load(texts, data)
        methods: dict[Kind, Make] = {"orm": labeller.orm, "prm": labeller.prm, "parm": labeller.parm}
        return methods[kind]

    return Job(
        out=out,
        identity={"kind": kind, **drawing.identity(), "prompts_sha256": digest},
        work=requirements,
        load=load,
        title=f"{kind.upper()} ranking data",
        how=f"Drawn by {drawing.generator} (temperature {drawing.temperature}, seed {drawing.seed}) "
        f"and labelled by {drawing.detector}.",
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
        identity={"kind": "redraws", **drawing.identity(), "data_sha256": content(data), "groups": len(chosen)},
        work=chosen,
        load=lambda under_way: drawing.load(texts, under_way, before).redraws,
        title="Redrawn images",
        how=f"The rejected images of {data}, drawn again by {drawing.generator} and labelled by {drawing.detector}.",
        each=drawing.paths,
    )
