"""`imagecot curate`: prompts and labelled images for reward models. Here requests are read and results are told."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from imagecot.commands.options import PATHS, SEED, between
from imagecot.commands.output import completion, nearest, progress_bar, usable, waiting
from imagecot.interruption import continuing
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.curation.draws import Drawing, Kind
    from imagecot.curation.job import Job

app = typer.Typer(no_args_is_help=True, help="Make ranking data.")

_MANY = between(1, 100_000_000)

Prompts = Annotated[Path, typer.Option(help="A file of `curate prompts`.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Where to write.", show_default=False)]
Generator = Annotated[str, typer.Option(help="Who draws.", autocompletion=completion("generator"))]
Detector = Annotated[
    str,
    typer.Option(help="Who labels: pictograms, a Mask2Former, or module:Class.", autocompletion=completion("detector")),
]
Paths = Annotated[int, typer.Option(help="Paths drawn for each prompt.", callback=PATHS)]
Keep = Annotated[
    int,
    typer.Option(help="Images kept of each prompt, both labels alike where there are enough.", callback=PATHS),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same rows.", callback=SEED)]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Strength of the decoding noise; the paper samples at a high one. Default: the generator's own.",
        show_default=False,
    ),
]
Precision = Annotated[str | None, typer.Option(help=f"Of the generator: {', '.join(PRECISIONS)}.", show_default=False)]

_CONTINUES = "the same command continues where this run was"
_AGAIN = "run the same command again"


@app.command()
def prompts(
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    world: Annotated[
        str,
        typer.Option(
            help="drawn (tiny is its old name), geneval, module:Class, everyday (200 objects), or a file of names.",
            autocompletion=completion("world"),
        ),
    ] = "drawn",
    per_task: Annotated[
        int, typer.Option(help="Prompts of each of the six tasks, at most.", callback=between(1, 100_000))
    ] = 200,
    seed: Seed = 0,
) -> None:
    """Write training prompts in GenEval's templates, none of them a test prompt.

    Example:

      imagecot curate prompts --world drawn --per-task 100 --out runs/prompts.jsonl
    """
    from imagecot.curation.prompts import prompts_of, write_prompts

    with continuing(_AGAIN):
        found = prompts_of(world, per_task, seed)
        write_prompts(found, out)
    typer.echo(f"{len(found)} prompts: {out}")


@app.command()
def orm(
    prompts: Prompts, out: Out, generator: Generator = "tiny", detector: Detector = "pictograms", paths: Paths = 20,
    keep: Keep = 20, temperature: Temperature = None, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Label final images: yes where GenEval's scorer finds all that the prompt asks.

    Example:

      imagecot curate orm --prompts runs/prompts.jsonl --out runs/orm
    """
    _label("orm", prompts, out, _drawing(generator, detector, temperature, seed, precision), paths, keep)


@app.command()
def prm(
    prompts: Prompts, out: Out, generator: Generator = "tiny", detector: Detector = "pictograms",
    temperature: Temperature = None, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Label the previews of every step: yes where one of four continuations ends right.

    Example:

      imagecot curate prm --prompts runs/prompts.jsonl --out runs/prm
    """
    _label("prm", prompts, out, _drawing(generator, detector, temperature, seed, precision), 1, 1)


@app.command()
def parm(
    prompts: Prompts, out: Out, generator: Generator = "tiny", detector: Detector = "pictograms", paths: Paths = 20,
    keep: Keep = 20, temperature: Temperature = None, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Label previews for clarity and potential, and final images for selection, as 120 : 80 : 200.

    Example:

      imagecot curate parm --prompts runs/prompts.jsonl --out runs/parm
    """
    _label("parm", prompts, out, _drawing(generator, detector, temperature, seed, precision), paths, keep)


@app.command()
def pairs(
    data: Annotated[
        list[Path], typer.Option(help="Folders of `curate orm`, or of `curate redraws`.", show_default=False)
    ],
    out: Out,
    per_prompt: Annotated[int, typer.Option(help="Pairs of each prompt, at most.", callback=PATHS)] = 1,
    most: Annotated[int | None, typer.Option(help="Pairs in all, at most.", show_default=False, callback=_MANY)] = None,
    seed: Seed = 0,
) -> None:
    """Pair a yes image with a no image of the same prompt, for preference alignment.

    Images that were drawn again are paired with others drawn again from the same image.

    Examples:

      imagecot curate pairs --data runs/orm --out runs/pairs

      imagecot curate pairs --data runs/redraws --data runs/orm --out runs/pairs-again
    """
    from imagecot.curation.pairs import curate_pairs

    with continuing(_AGAIN):
        made = curate_pairs(data, out, seed, per_prompt, most)
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
    from imagecot import registry
    from imagecot.curation.reflection import Reflecting, reflection_job

    by = Reflecting(detector, endpoint, model, seed)
    if endpoint is None:
        registry.check("detector", detector)
    chat = by.chat(out)
    with continuing(_CONTINUES):
        counts = _fill(reflection_job(data, out, by, chat), "reflecting")
    left_out = f"; {chat.left_out} gave no reasons" if chat and chat.left_out else ""
    _tell(counts, out, f"; {chat.cost}{left_out}" if chat else "")


@app.command()
def repairs(
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="A folder of `curate orm`: its rejected images are put right.")
    ] = None,
    scenes: Annotated[
        int,
        typer.Option(
            help="Scenes to draw beside a prompt that they miss, and put right.", callback=between(0, 10_000_000)
        ),
    ] = 0,
    generator: Generator = "tiny",
    seed: Seed = 0,
) -> None:
    """Draw accepted images that differ from rejected ones only in what is wrong (drawn world only).

    Examples:

      imagecot curate repairs --data runs/orm --out runs/repairs

      imagecot curate repairs --scenes 10000 --out runs/near-misses
    """
    from imagecot import registry
    from imagecot.curation.repairs import repair_job

    registry.check("generator", generator)
    with continuing(_CONTINUES):
        counts = _fill(repair_job(data, scenes, out, generator, seed), "repairing")
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
    most: Annotated[
        int | None, typer.Option(help="Groups in all, at most.", show_default=False, callback=_MANY)
    ] = None,
    seed: Seed = 0,
) -> None:
    """Put an accepted image beside each rejected one that has reasons, for self-correction.

    Example:

      imagecot curate corrections --data runs/reflection --images runs/orm --images runs/repairs --out runs/corrections
    """
    from imagecot.curation.corrections import Pairing, curate_corrections

    if pairing not in get_args(Pairing):
        raise nearest("pairing", pairing, list(get_args(Pairing)))
    with continuing(_AGAIN):
        groups = curate_corrections(data, images, out, cast(Pairing, pairing), seed, most)
    typer.echo(f"{len(groups)} groups of {len({group['prompt'] for group in groups})} prompts: {out}")


@app.command()
def redraws(
    data: Annotated[Path, typer.Option(help="A folder of `curate corrections`.", show_default=False)],
    out: Out, generator: Generator = "tiny-self-correct", detector: Detector = "pictograms",
    groups: Annotated[int, typer.Option(help="Rejected images, at most.", callback=PATHS)] = 1000,
    paths: Annotated[int, typer.Option(help="Paths drawn for each rejected image.", callback=PATHS)] = 16,
    keep: Keep = 4, temperature: Temperature = None, seed: Seed = 0, precision: Precision = None,
) -> None:  # fmt: skip
    """Draw rejected images again from prompt, image and reasons, and label the results: pairs for a better correction.

    Example:

      imagecot curate redraws --data runs/corrections --generator runs/self-correct --out runs/redraws
    """
    from dataclasses import replace

    from imagecot.curation.draws import redraw_job

    drawing = replace(_drawing(generator, detector, temperature, seed, precision), paths=paths, keep=keep)
    with continuing(_CONTINUES):
        counts = _fill(redraw_job(data, out, groups, drawing), "curating")
    _tell(counts, out)


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

    with continuing(_AGAIN):
        count = export_llava(data, out)
    typer.echo(f"{count} conversations: {out}/data.json")


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
    from imagecot.curation.llava import curate_import

    with continuing(_AGAIN):
        counts = curate_import(file, images, out)
    _tell(counts, out)


def _drawing(generator: str, detector: str, temperature: float | None, seed: int, precision: str | None) -> "Drawing":
    """Who draws and labels; UsageError for names that are unknown."""
    from imagecot import registry
    from imagecot.curation.draws import Drawing

    check_precision(precision)
    registry.check("generator", generator)
    registry.check("detector", detector)
    return Drawing(generator, detector, temperature=temperature, seed=seed, precision=usable(precision))


def _label(kind: "Kind", prompts: Path, out: Path, drawing: "Drawing", paths: int, keep: int) -> None:
    from dataclasses import replace

    from imagecot.curation.draws import label_job

    with continuing(_CONTINUES):
        counts = _fill(label_job(kind, prompts, out, replace(drawing, paths=paths, keep=keep)), "curating")
    _tell(counts, out)


def _fill(job: "Job", doing: str) -> dict[str, int]:
    """Do what a job asks for, with a bar."""
    from imagecot.curation.job import Watch, run

    return run(job, Watch(lambda: waiting("loading the models"), lambda: progress_bar(doing)))


def _tell(counts: dict[str, int], out: Path, cost: str = "") -> None:
    typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()) + f"{cost}: {out}")
