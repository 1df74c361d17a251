"""Iterative DPO: draw with the aligned model, label, pair, align again (paper, section 2.3).

Everything of a round stays in `output/round-<k>`: `data` (labelled images), `pairs` and `weights`. What is there is not
done again, so a killed run goes on where it was. The weights of the last round are copied to `output`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from imagecot import launch, peers
from imagecot.alignment.alignment import Alignment
from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.alignment.online import judged_by, read_prompt_texts
from imagecot.bounds import MOST_PATHS
from imagecot.contracts.generator import Adjustable, Generator
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Verifier
from imagecot.curation.dataset import read_rows
from imagecot.curation.job import Job, fill
from imagecot.curation.label import Labeller
from imagecot.curation.pairs import make_pairs, write_pairs
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_atomically
from imagecot.generators import load_generator
from imagecot.geneval.metadata import read_prompts
from imagecot.geneval.prompts import refuse_overlap
from imagecot.precision import Precision
from imagecot.prompts import check_prompts
from imagecot.recipe_fields import RECIPE, Batch, Count, Few, Name, Place, Seed, Weight
from imagecot.registry import digests
from imagecot.training.output import FILE, TRAINING, Output, digest_of, is_finished, open_output
from imagecot.training.tracking import ReportTo, keep_trackio_in
from imagecot.watch import SILENT, Watch
from imagecot.worlds.find import classes_of, held_out_of, load_judges


class IterativeRecipe(BaseModel):
    """A recipe of `imagecot train dpo` with rounds.

    base         who draws in the first round, and is aligned: the paper's has been through DPO before
    reference    `previous`: the generator that a round starts from; `start`: `base`; or a generator's name. The
                 previous one lets a round move as far again as the one before; the start keeps all rounds together near
                 one model.
    prompts      a file of `curate prompts`; every round draws `paths` for each anew
    precision    of the drawing generator; half takes half the time on a CPU and changes no score that was measured
    pairs        pairs a round, at most
    """

    model_config = RECIPE

    kind: Literal["iterative-dpo"] = "iterative-dpo"
    output: Place
    report_to: ReportTo = []
    base: Name
    rounds: Few = 1
    reference: Name = "previous"
    prompts: Place
    detector: Name = "pictograms"
    paths: Annotated[int, Field(strict=True, ge=2, le=MOST_PATHS)] = 20
    temperature: Weight = 1.0
    precision: Precision | None = None
    per_prompt: Batch = 1
    pairs: Count | None = None
    seed: Seed = 0
    training: Alignment

    @model_validator(mode="after")
    def _pairs_matter(self) -> Self:
        if not self.training.dpo_weight:
            raise ValueError("dpo_weight is 0, so rounds of pairs would not be used; leave rounds away")
        if self.training.online:
            online = judged_by(self.training.online, self.base)
            self.training = self.training.model_copy(update={"online": online})
        return self


def train_iteratively(recipe: IterativeRecipe, verifier: Verifier | None = None, *, watch: Watch = SILENT) -> None:
    """Follow the recipe; an interrupted run is resumed.

    verifier  who rewards, instead of loading the recipe's

    UsageError where a prompt is a test prompt, or where no prompt of a round has images of both labels.
    """
    requirements = read_prompts(recipe.prompts, classes_of(recipe.detector))
    refuse_overlap([m.prompt for m in requirements], held_out_of(recipe.detector))
    output = _output(recipe, loads_verifier=verifier is None)
    if output.finished:
        return
    process = launch.processes()
    keep_trackio_in(output.logs / "trackio")
    current = recipe.base
    for number in range(1, recipe.rounds + 1):
        folder = recipe.output / f"round-{number}"
        if not is_finished(folder / "weights"):
            with peers.first():
                if process.is_main_process and not (folder / "pairs" / "README.md").is_file():
                    _draw_pairs(recipe, current, requirements, output, number, watch)
            train_dpo(
                DpoRecipe(
                    output=folder / "weights",
                    report_to=recipe.report_to,
                    base=current,
                    data=folder / "pairs",
                    reference={"previous": current, "start": recipe.base}.get(recipe.reference, recipe.reference),
                    training=recipe.training.model_copy(update={"seed": recipe.training.seed + number}),
                ),
                verifier,
                watch=watch,
            )
        current = str(folder / "weights")
    if process.is_main_process:
        _copy_checkpoint(Path(current), recipe.output)
        output.finish()


def _output(recipe: IterativeRecipe, *, loads_verifier: bool) -> Output:
    """The folder of a recipe, looked at before a model is loaded."""
    models = {"base": ("generator", recipe.base)}
    if recipe.reference not in ("previous", "start"):
        models["reference"] = ("generator", recipe.reference)
    files: dict[str, JSON] = {"prompts": digest_of([recipe.prompts])}
    online = recipe.training.online
    if online is not None and online.weight > 0:
        if loads_verifier:
            models["training.online.verifier"] = ("verifier", online.verifier)
        read_prompt_texts(online.prompts)
        files["training.online.prompts"] = digest_of([online.prompts])
    return open_output(recipe, models=models, files=files)


def _draw_pairs(
    recipe: IterativeRecipe,
    generator: str,
    requirements: Sequence[Metadata],
    output: Output,
    number: int,
    watch: Watch,
) -> None:
    """Draw and label images by `generator` for the round `number`, and pair them."""
    folder, seed = recipe.output / f"round-{number}", recipe.seed + number
    identity: dict[str, JSON] = {
        "kind": "orm",
        "generator": generator,
        "weights": digests("generator", generator),
        "detector": recipe.detector,
        "paths": recipe.paths,
        "temperature": recipe.temperature,
        "precision": recipe.precision,
        "seed": seed,
        "prompts": [m.prompt for m in requirements],
    }
    model = _at_temperature(load_generator(generator, dtype=recipe.precision), generator, recipe.temperature)
    check_prompts([m.prompt for m in requirements], model)
    output.claim()
    job = Job(
        out=folder / "data",
        identity=identity,
        work=requirements,
        load=lambda _: Labeller(model, load_judges(recipe.detector)[0], recipe.paths, recipe.paths, seed).orm,
        doing=f"drawing ({folder.name})",
        title="ORM ranking data",
        how=f"Drawn by {generator} (seed {seed}) and labelled by {recipe.detector}.",
        each=recipe.paths,
    )
    fill(lambda: job, watch)
    pairs = make_pairs(read_rows(folder / "data"), seed, recipe.per_prompt, recipe.pairs)
    write_pairs(folder / "pairs", pairs, {"kind": "pairs", "seed": seed, "per_prompt": recipe.per_prompt})


def _at_temperature(generator: Generator, name: str, temperature: float) -> Generator:
    """The generator at a temperature; one that has none draws as it does, which is called 1."""
    if generator.settings.get("temperature", 1.0) == temperature:
        return generator
    if not isinstance(generator, Adjustable):
        raise UsageError(f"{name} cannot draw at another temperature; leave out temperature.")
    return generator.adjusted(temperature=temperature)


def _copy_checkpoint(source: Path, target: Path) -> None:
    """Copy the files of a checkpoint folder, the image tokenizer inside it included, but not its training."""
    for file in sorted(source.rglob("*")):
        place = target / file.relative_to(source)
        if file.is_file() and file.relative_to(source).parts[0] not in (TRAINING, FILE):
            make_folder(place.parent)
            write_atomically(place, lambda path, file=file: shutil.copyfile(file, path))  # type: ignore[misc]
