"""`imagecot curate`: prompts and labelled images for reward models."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from imagecot import models as names
from imagecot.commands.output import nearest, progress_bar, say, usable, waiting
from imagecot.errors import UsageError
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.curation.dataset import RankingData

# Maps a unit's prompts, rows or numbers to its rows.
Make = Callable[[Sequence[Any]], Iterable[dict[str, Any]]]

app = typer.Typer(no_args_is_help=True, help="Make ranking data.")

Prompts = Annotated[Path, typer.Option(help="A file of `curate prompts`.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Where to write.", show_default=False)]
Generator = Annotated[str, typer.Option(help="Who draws.", autocompletion=lambda: names.known("generator"))]
Detector = Annotated[str, typer.Option(help="Who labels: pictograms, or a Mask2Former.")]
Paths = Annotated[int, typer.Option(help="Paths drawn for each prompt.")]
Keep = Annotated[int, typer.Option(help="Images kept of each prompt, both labels alike where there are enough.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same rows.")]
Temperature = Annotated[float, typer.Option(help="Strength of the decoding noise; the paper samples at a high one.")]

Precision = Annotated[str | None, typer.Option(help=f"Of the generator: {', '.join(PRECISIONS)}.", show_default=False)]

_PATHS_A_UNIT = 160


@app.command()
def prompts(
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    world: Annotated[str, typer.Option(help="tiny, everyday (200 objects), or a file with a name a line.")] = "tiny",
    per_task: Annotated[int, typer.Option(help="Prompts of each of the six tasks, at most.")] = 200,
    seed: Seed = 0,
) -> None:
    """Write training prompts in GenEval's templates, none of them a test prompt.

    Example:

      imagecot curate prompts --world tiny --per-task 100 --out runs/prompts.jsonl
    """
    from imagecot.curation import prompts as made
    from imagecot.geneval.prompts import load_benchmark_prompts

    if per_task < 1:
        raise UsageError(f"--per-task must be at least 1, not {per_task}.")
    if world == "tiny":
        found = made.pictogram_prompts(per_task, seed)
    else:
        found = made.training_prompts(
            made.everyday_objects() if world == "everyday" else _names(Path(world)),
            per_task,
            seed,
            [m["prompt"] for m in load_benchmark_prompts()],
        )
    made.write_prompts(found, out)
    typer.echo(f"{len(found)} prompts: {out}")


def _names(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} cannot be read ({error}); give tiny, everyday or a file with a name a line."
        ) from None


@app.command()
def orm(
    prompts: Prompts, out: Out, generator: Generator = "tiny", detector: Detector = "pictograms", paths: Paths = 20,
    keep: Keep = 20, temperature: Temperature = 1.0, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Label final images: yes where GenEval's scorer finds all that the prompt asks.

    Example:

      imagecot curate orm --prompts runs/prompts.jsonl --out runs/orm
    """
    _run("orm", prompts, out, generator, detector, paths, keep, temperature, seed, precision)


@app.command()
def prm(
    prompts: Prompts, out: Out, generator: Generator = "tiny", detector: Detector = "pictograms",
    temperature: Temperature = 1.0, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Label the previews of every step: yes where one of four continuations ends right.

    Example:

      imagecot curate prm --prompts runs/prompts.jsonl --out runs/prm
    """
    _run("prm", prompts, out, generator, detector, 1, 1, temperature, seed, precision)


@app.command()
def parm(
    prompts: Prompts, out: Out, generator: Generator = "tiny", detector: Detector = "pictograms", paths: Paths = 20,
    keep: Keep = 20, temperature: Temperature = 1.0, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Label previews for clarity and potential, and final images for selection, as 120 : 80 : 200.

    Example:

      imagecot curate parm --prompts runs/prompts.jsonl --out runs/parm
    """
    _run("parm", prompts, out, generator, detector, paths, keep, temperature, seed, precision)


@app.command()
def pairs(
    data: Annotated[
        list[Path], typer.Option(help="Folders of `curate orm`, or of `curate redraws`.", show_default=False)
    ],
    out: Out,
    per_prompt: Annotated[int, typer.Option(help="Pairs of each prompt, at most.")] = 1,
    most: Annotated[int | None, typer.Option(help="Pairs in all, at most.", show_default=False)] = None,
    seed: Seed = 0,
) -> None:
    """Pair a yes image with a no image of the same prompt, for preference alignment.

    Images that were drawn again are paired with others drawn again from the same image.

    Examples:

      imagecot curate pairs --data runs/orm --out runs/pairs

      imagecot curate pairs --data runs/redraws --data runs/orm --out runs/pairs-again
    """
    from imagecot.curation.dataset import read_rows
    from imagecot.curation.pairs import make_pairs, write_pairs

    for what, value in (("--per-prompt", per_prompt), ("--most", most)):
        if value is not None and value < 1:
            raise UsageError(f"{what} must be at least 1, not {value}.")
    made = make_pairs(chain.from_iterable(map(read_rows, data)), seed, per_prompt, most)
    folders = str(data[0]) if len(data) == 1 else [*map(str, data)]
    identity = {"kind": "pairs", "data": folders, "per_prompt": per_prompt, "most": most, "seed": seed}
    write_pairs(out, made, identity)
    typer.echo(f"{len(made)} pairs of {len({pair['prompt'] for pair in made})} prompts: {out}")


@app.command()
def reflection(
    data: Annotated[Path, typer.Option(help="A folder of `curate orm`.", show_default=False)],
    out: Out,
    detector: Detector = "pictograms",
    endpoint: Annotated[
        str | None,
        typer.Option(help="A chat model with vision gives the reasons: the base URL of its OpenAI-like interface."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The name of that model; its key is in OPENAI_API_KEY.")] = None,
    seed: Seed = 0,
) -> None:
    """Say in words what is wrong with the rejected images; about one in five rows is an accepted image.

    The reasons are the scorer's own findings, or what a chat model sees.

    Examples:

      imagecot curate reflection --data runs/orm --out runs/reflection

      imagecot curate reflection --data runs/orm --out runs/refl --endpoint https://api.openai.com/v1 --model gpt-4o
    """
    from imagecot.curation.chat_model import ChatModel
    from imagecot.curation.dataset import RankingData, read_rows
    from imagecot.curation.reflection import by_scorer, reflections
    from imagecot.geneval.choice import detectors

    if (endpoint is None) != (model is None):
        raise UsageError("--endpoint and --model go together; give both or neither.")
    rows = [row for row in read_rows(data) if row["question"] == "orm"]
    if not rows:
        raise UsageError(f"{data} has no rows of the question orm; run imagecot curate orm first.")
    units = [rows[first : first + _PATHS_A_UNIT] for first in range(0, len(rows), _PATHS_A_UNIT)]
    who = model or detector
    identity = {"kind": "reflection", "data": str(data), "rows": len(rows), "reasons": who, "seed": seed}
    made = RankingData(out, identity, len(units))
    chat = ChatModel(endpoint, model, out / "answers") if endpoint and model else None

    def load() -> Make:
        explain = chat.explain if chat else by_scorer(detectors(detector)[0], seed)
        return lambda unit: reflections(unit, explain, seed)

    _fill(made, units, "reflecting", load)
    counts = made.finish("Reflection data", f"The images of {data}; reasons by {who}.")
    _tell(counts, out, f"; {chat.cost}" if chat else "")


@app.command()
def repairs(
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="A folder of `curate orm`: its rejected images are put right.")
    ] = None,
    scenes: Annotated[int, typer.Option(help="Scenes to draw beside a prompt that they miss, and put right.")] = 0,
    generator: Generator = "tiny",
    seed: Seed = 0,
) -> None:
    """Draw accepted images that differ from rejected ones only in what is wrong (drawn world only).

    Examples:

      imagecot curate repairs --data runs/orm --out runs/repairs

      imagecot curate repairs --scenes 10000 --out runs/near-misses
    """
    from imagecot.curation.dataset import RankingData, read_rows
    from imagecot.curation.repairs import Repairer
    from imagecot.generators import load_generator
    from imagecot.pictograms.detector import load_detector

    if (data is None) == (scenes == 0) or scenes < 0:
        raise UsageError("give either --data, a folder of curate orm, or --scenes, a number of at least 1.")
    _check_generator(generator)
    work: Any = range(scenes)
    if data is not None:
        work = [row for row in read_rows(data) if row["question"] == "orm" and row["label"] == "no"]
        if not work:
            raise UsageError(f"{data} has no rejected images; run imagecot curate orm first.")
    units = [work[first : first + _PATHS_A_UNIT] for first in range(0, len(work), _PATHS_A_UNIT)]
    weights = names.weights_of("generator", generator)
    identity = {"kind": "repairs", "data": data and str(data), "images": len(work), "generator": generator}
    made = RankingData(out, {**identity, "weights": weights, "seed": seed}, len(units))

    def load() -> Make:
        drawer = load_generator(generator)
        repairer = Repairer(drawer.image_tokenizer, load_detector(), drawer.steps, seed)
        return repairer.scenes if data is None else repairer.images

    _fill(made, units, "repairing", load)
    counts = made.finish("Repairs", f"The rejected images of {data}, put right." if data else "Scenes, put right.")
    _tell(counts, out)


@app.command()
def corrections(
    data: Annotated[list[Path], typer.Option(help="Folders of `curate reflection`.", show_default=False)],
    images: Annotated[
        list[Path], typer.Option(help="Folders with their accepted images: `curate orm`, `curate repairs`.")
    ],
    out: Out,
    pairing: Annotated[
        str, typer.Option(help="nearest: the accepted image that shares most with the rejected one; random: any.")
    ] = "nearest",
    most: Annotated[int | None, typer.Option(help="Groups in all, at most.", show_default=False)] = None,
    seed: Seed = 0,
) -> None:
    """Put an accepted image beside each rejected one that has reasons, for self-correction.

    Example:

      imagecot curate corrections --data runs/reflection --images runs/orm --images runs/repairs --out runs/corrections
    """
    from imagecot.curation import corrections as made
    from imagecot.curation.dataset import read_rows

    if pairing not in get_args(made.Pairing):
        raise nearest("pairing", pairing, list(get_args(made.Pairing)))
    if most is not None and most < 1:
        raise UsageError(f"--most must be at least 1, not {most}.")
    rejected, accepted = (chain.from_iterable(map(read_rows, folders)) for folders in (data, images))
    groups = made.make_corrections(rejected, accepted, cast(made.Pairing, pairing), seed, most)
    folders = {"data": [*map(str, data)], "images": [*map(str, images)]}
    identity = {"kind": "corrections", **folders, "pairing": pairing, "most": most}
    made.write_corrections(out, groups, {**identity, "seed": seed})
    typer.echo(f"{len(groups)} groups of {len({group['prompt'] for group in groups})} prompts: {out}")


@app.command()
def redraws(
    data: Annotated[Path, typer.Option(help="A folder of `curate corrections`.", show_default=False)],
    out: Out, generator: Generator = "tiny-self-correct", detector: Detector = "pictograms",
    groups: Annotated[int, typer.Option(help="Rejected images, at most.")] = 1000,
    paths: Annotated[int, typer.Option(help="Paths drawn for each rejected image.")] = 16,
    keep: Keep = 4, temperature: Temperature = 1.0, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Draw rejected images again from prompt, image and reasons, and label the results: pairs for a better correction.

    Example:

      imagecot curate redraws --data runs/corrections --generator runs/self-correct --out runs/redraws
    """
    from imagecot.curation.corrections import read_corrections

    _check_draws(paths, keep, generator, precision)
    if groups < 1:
        raise UsageError(f"--groups must be at least 1, not {groups}.")
    chosen = list(islice(read_corrections(data), groups))
    _label(
        "redraws", chosen, paths, {"data": str(data), "groups": len(chosen)}, "Redrawn images",
        f"The rejected images of {data}, drawn again by {generator} and labelled by {detector}.",
        out, generator, detector, paths, keep, temperature, seed, precision,
    )  # fmt: skip


@app.command()
def export(
    data: Annotated[Path, typer.Option(help="A curated folder.", show_default=False)],
    out: Out,
) -> None:
    """Write a curated folder as LLaVA conversations: data.json and images/.

    Example:

      imagecot curate export --data runs/parm --out runs/parm-llava
    """
    from imagecot.curation.llava import export_llava

    typer.echo(f"{export_llava(data, out)} conversations: {out}/data.json")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Option(help="The JSON file of LLaVA conversations.", show_default=False)],
    images: Annotated[Path, typer.Option(help="The folder that its image paths start from.", show_default=False)],
    out: Out,
) -> None:
    """Read LLaVA conversations, such as the paper's released data, into a curated folder.

    Example:

      imagecot curate import --file parm.json --images . --out runs/parm-released
    """
    from imagecot.curation.dataset import RankingData
    from imagecot.curation.llava import import_llava

    rows = list(import_llava(file, images))
    size = 1000
    data = RankingData(
        out, {"kind": "import", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}, -(-len(rows) // size)
    )
    for unit in data.missing():
        data.keep(unit, rows[unit * size : (unit + 1) * size])
    _tell(data.finish("Imported ranking data", f"From {file.name}."), out)


def _run(
    kind: str, prompts: Path, out: Path, generator: str, detector: str, paths: int, keep: int, temperature: float,
    seed: int, precision: str | None,
) -> None:  # fmt: skip
    from imagecot.geneval.choice import classes_of
    from imagecot.geneval.folder import read_prompts

    _check_draws(paths, keep, generator, precision)
    requirements = read_prompts(prompts, classes_of(detector))
    _label(
        kind, requirements, paths if kind != "prm" else 4,
        {"prompts_sha256": hashlib.sha256(prompts.read_bytes()).hexdigest()}, f"{kind.upper()} ranking data",
        f"Drawn by {generator} (temperature {temperature}, seed {seed}) and labelled by {detector}.",
        out, generator, detector, paths, keep, temperature, seed, precision,
    )  # fmt: skip


def _label(
    kind: str, work: Sequence[dict[str, Any]], paths_each: int, source: dict[str, Any], title: str, how: str, out: Path,
    generator: str, detector: str, paths: int, keep: int, temperature: float, seed: int, precision: str | None,
) -> None:  # fmt: skip
    """Fill a folder with what the labeller's method `kind` makes of `work`, rows with a prompt; `source` is theirs."""
    from imagecot.curation.dataset import RankingData
    from imagecot.geneval.choice import held_out_of
    from imagecot.geneval.prompts import refuse_overlap

    refuse_overlap([row["prompt"] for row in work], held_out_of(detector))
    precision = usable(precision)
    size = max(1, _PATHS_A_UNIT // paths_each)
    units = [work[first : first + size] for first in range(0, len(work), size)]
    identity = {
        "kind": kind,
        "generator": generator,
        "weights": names.weights_of("generator", generator),
        "detector": detector,
        "paths": paths,
        "keep": keep,
        "temperature": temperature,
        "seed": seed,
        "precision": precision,
        **source,
    }
    data = RankingData(out, identity, len(units))

    def load() -> Make:
        labeller = _labeller(generator, detector, paths, keep, temperature, seed, precision)
        return cast(Make, getattr(labeller, kind))

    _fill(data, units, "curating", load)
    _tell(data.finish(title, how), out)


def _check_draws(paths: int, keep: int, generator: str, precision: str | None) -> None:
    for what, value in (("--paths", paths), ("--keep", keep)):
        if value < 1:
            raise UsageError(f"{what} must be at least 1, not {value}.")
    check_precision(precision)
    _check_generator(generator)


def _check_generator(generator: str) -> None:
    """Raise UsageError for a generator that is neither here nor may be at the hub, before a folder is claimed."""
    if names.locate(generator) is None and generator.count("/") != 1:
        raise nearest("generator", generator, names.known("generator"), ", or give a folder or another hub id")


def _fill(data: "RankingData", units: Sequence[Sequence[Any]], doing: str, load: Callable[[], Make]) -> None:
    """Do the missing units of `data`, with a bar; the models are loaded only where there are any."""
    from imagecot.curation.dataset import curate

    try:
        if data.missing():
            with waiting("loading the models"):
                make = load()
            with progress_bar(doing) as progress:
                curate(data, units, make, lambda done: progress(done, len(units)))
    except KeyboardInterrupt:
        say("stopped; the same command continues where this run was.")
        raise typer.Exit(130) from None


def _tell(counts: dict[str, int], out: Path, cost: str = "") -> None:
    typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()) + f"{cost}: {out}")


def _labeller(
    generator: str, detector: str, paths: int, keep: int, temperature: float, seed: int, precision: str | None
) -> Any:
    import dataclasses

    from imagecot.curation.label import Labeller
    from imagecot.generators import load_generator
    from imagecot.geneval.choice import detectors

    model = dataclasses.replace(load_generator(generator, dtype=precision), temperature=temperature)
    return Labeller(model, detectors(detector)[0], paths, keep, seed)
