"""`imagecot curate`: prompts and labelled images for reward models. Options become a recipe, and results are told."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from imagecot.commands.logged import LoggedCommand
from imagecot.commands.options import PATHS, SEED, On, Workers, between
from imagecot.commands.output import completion, terminal
from imagecot.errors import nearest
from imagecot.execution.executors import LOCAL
from imagecot.interruption import continuing
from imagecot.launch import launched
from imagecot.precision import PRECISIONS, check_precision

if TYPE_CHECKING:
    from imagecot.curation.recipes import Recipe

app = typer.Typer(no_args_is_help=True, help="Make ranking data.")

_MANY = between(1, 100_000_000)


def _pairing(name: str) -> str:
    from imagecot.curation.recipes import Pairing

    if name not in get_args(Pairing):
        raise nearest("pairing", name, get_args(Pairing))
    return name


Prompts = Annotated[Path, typer.Option(help="A file of `curate prompts`.", show_default=False)]
File = Annotated[Path, typer.Option(help="The file to write.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Where to write.", show_default=False)]
World = Annotated[
    str,
    typer.Option(
        help="drawn (tiny is its old name), geneval, module:Class, everyday (200 objects), or a file of names.",
        autocompletion=completion("world"),
    ),
]
PerTask = Annotated[int, typer.Option(help="Prompts of each of the six tasks, at most.", callback=between(1, 100_000))]
Generator = Annotated[str, typer.Option(help="Who draws.", autocompletion=completion("generator"))]
Detector = Annotated[
    str,
    typer.Option(help="Who labels: pictograms, a Mask2Former, or module:Class.", autocompletion=completion("detector")),
]
Paths = Annotated[int, typer.Option(help="Paths drawn for each prompt.", callback=PATHS)]
Redrawn = Annotated[int, typer.Option(help="Paths drawn for each rejected image.", callback=PATHS)]
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
Labelled = Annotated[
    list[Path], typer.Option(help="Folders of `curate orm`, or of `curate redraws`.", show_default=False)
]
Orm = Annotated[Path, typer.Option(help="A folder of `curate orm`.", show_default=False)]
PerPrompt = Annotated[int, typer.Option(help="Pairs of each prompt, at most.", callback=PATHS)]
MostPairs = Annotated[int | None, typer.Option(help="Pairs in all, at most.", show_default=False, callback=_MANY)]
Endpoint = Annotated[
    str | None,
    typer.Option(help="A chat model with vision gives the reasons: the base URL of its OpenAI-like interface."),
]
Model = Annotated[str | None, typer.Option(help="The name of that model; its key is in OPENAI_API_KEY.")]
Rejected = Annotated[Path | None, typer.Option(help="A folder of `curate orm`: its rejected images are put right.")]
Scenes = Annotated[
    int,
    typer.Option(help="Scenes to draw beside a prompt that they miss, and put right.", callback=between(0, 10_000_000)),
]
Reflected = Annotated[list[Path], typer.Option(help="Folders of `curate reflection`.", show_default=False)]
Accepted = Annotated[
    list[Path], typer.Option(help="Folders with their accepted images: `curate orm`, `curate repairs`.")
]
Pairing = Annotated[
    str,
    typer.Option(
        help="nearest: the accepted image that shares most with the rejected one; random: any.", callback=_pairing
    ),
]
MostGroups = Annotated[int | None, typer.Option(help="Groups in all, at most.", show_default=False, callback=_MANY)]
Corrections = Annotated[Path, typer.Option(help="A folder of `curate corrections`.", show_default=False)]
Groups = Annotated[int, typer.Option(help="Rejected images, at most.", callback=PATHS)]
Curated = Annotated[Path, typer.Option(help="A curated folder.", show_default=False)]
Conversations = Annotated[Path, typer.Option(help="The JSON file of LLaVA conversations.", show_default=False)]
Images = Annotated[Path, typer.Option(help="The folder that its image paths start from.", show_default=False)]


@app.command(cls=LoggedCommand)
def prompts(*, out: File, world: World = "drawn", per_task: PerTask = 200, seed: Seed = 0) -> None:
    """Write training prompts in GenEval's templates, none of them a test prompt.

    Example:

      imagecot curate prompts --world drawn --per-task 100 --out runs/prompts.jsonl
    """
    from imagecot.curation.recipes import CuratePrompts

    _curate(CuratePrompts, output=out, world=world, per_task=per_task, seed=seed)


@app.command(cls=LoggedCommand)
def orm(
    *,
    prompts: Prompts,
    out: Out,
    generator: Generator = "tiny",
    detector: Detector = "pictograms",
    paths: Paths = 20,
    keep: Keep = 20,
    temperature: Temperature = None,
    seed: Seed = 0,
    precision: Precision = None,
    workers: Workers = 1,
    on: On = LOCAL,
) -> None:
    """Label final images: yes where GenEval's scorer finds all that the prompt asks.

    Example:

      imagecot curate orm --prompts runs/prompts.jsonl --out runs/orm
    """
    from imagecot.curation.recipes import CurateOrm

    check_precision(precision)
    asked = {
        "prompts": prompts,
        "output": out,
        "generator": generator,
        "detector": detector,
        "paths": paths,
        "keep": keep,
    }
    _curate(CurateOrm, **asked, temperature=temperature, seed=seed, precision=precision, workers=workers, on=on)


@app.command(cls=LoggedCommand)
def prm(
    *,
    prompts: Prompts,
    out: Out,
    generator: Generator = "tiny",
    detector: Detector = "pictograms",
    temperature: Temperature = None,
    seed: Seed = 0,
    precision: Precision = None,
    workers: Workers = 1,
    on: On = LOCAL,
) -> None:
    """Label the previews of every step: yes where one of four continuations ends right.

    Example:

      imagecot curate prm --prompts runs/prompts.jsonl --out runs/prm
    """
    from imagecot.curation.recipes import CuratePrm

    check_precision(precision)
    asked = {
        "prompts": prompts,
        "output": out,
        "generator": generator,
        "detector": detector,
        "temperature": temperature,
    }
    _curate(CuratePrm, **asked, seed=seed, precision=precision, workers=workers, on=on)


@app.command(cls=LoggedCommand)
def parm(
    *,
    prompts: Prompts,
    out: Out,
    generator: Generator = "tiny",
    detector: Detector = "pictograms",
    paths: Paths = 20,
    keep: Keep = 20,
    temperature: Temperature = None,
    seed: Seed = 0,
    precision: Precision = None,
    workers: Workers = 1,
    on: On = LOCAL,
) -> None:
    """Label previews for clarity and potential, and final images for selection, as 120 : 80 : 200.

    Example:

      imagecot curate parm --prompts runs/prompts.jsonl --out runs/parm
    """
    from imagecot.curation.recipes import CurateParm

    check_precision(precision)
    asked = {
        "prompts": prompts,
        "output": out,
        "generator": generator,
        "detector": detector,
        "paths": paths,
        "keep": keep,
    }
    _curate(CurateParm, **asked, temperature=temperature, seed=seed, precision=precision, workers=workers, on=on)


@app.command(cls=LoggedCommand)
def pairs(*, data: Labelled, out: Out, per_prompt: PerPrompt = 1, most: MostPairs = None, seed: Seed = 0) -> None:
    """Pair a yes image with a no image of the same prompt, for preference alignment.

    Images that were drawn again are paired with others drawn again from the same image.

    Examples:

      imagecot curate pairs --data runs/orm --out runs/pairs

      imagecot curate pairs --data runs/redraws --data runs/orm --out runs/pairs-again
    """
    from imagecot.curation.recipes import CuratePairs

    _curate(CuratePairs, data=data, output=out, per_prompt=per_prompt, most=most, seed=seed)


@app.command(cls=LoggedCommand)
def reflection(
    *,
    data: Orm,
    out: Out,
    detector: Detector = "pictograms",
    endpoint: Endpoint = None,
    model: Model = None,
    seed: Seed = 0,
    workers: Workers = 1,
    on: On = LOCAL,
) -> None:
    """Say in words what is wrong with the rejected images; about one in five rows is an accepted image.

    The reasons are the scorer's own findings, or what a chat model sees.

    Examples:

      imagecot curate reflection --data runs/orm --out runs/reflection

      imagecot curate reflection --data runs/orm --out runs/refl --endpoint https://api.openai.com/v1 --model gpt-4o
    """
    from imagecot.curation.recipes import CurateReflection

    asked = {"data": data, "output": out, "detector": detector, "endpoint": endpoint, "model": model, "seed": seed}
    _curate(CurateReflection, **asked, workers=workers, on=on)


@app.command(cls=LoggedCommand)
def repairs(
    *,
    out: Out,
    data: Rejected = None,
    scenes: Scenes = 0,
    generator: Generator = "tiny",
    seed: Seed = 0,
    workers: Workers = 1,
    on: On = LOCAL,
) -> None:
    """Draw accepted images that differ from rejected ones only in what is wrong (drawn world only).

    Examples:

      imagecot curate repairs --data runs/orm --out runs/repairs

      imagecot curate repairs --scenes 10000 --out runs/near-misses
    """
    from imagecot.curation.recipes import CurateRepairs

    asked = {"output": out, "data": data, "scenes": scenes, "generator": generator, "seed": seed}
    _curate(CurateRepairs, **asked, workers=workers, on=on)


@app.command(cls=LoggedCommand)
def corrections(
    *,
    data: Reflected,
    images: Accepted,
    out: Out,
    pairing: Pairing = "nearest",
    most: MostGroups = None,
    seed: Seed = 0,
) -> None:
    """Put an accepted image beside each rejected one that has reasons, for self-correction.

    Example:

      imagecot curate corrections --data runs/reflection --images runs/orm --images runs/repairs --out runs/corrections
    """
    from imagecot.curation.recipes import CurateCorrections

    _curate(CurateCorrections, data=data, images=images, output=out, pairing=pairing, most=most, seed=seed)


@app.command(cls=LoggedCommand)
def redraws(
    *,
    data: Corrections,
    out: Out,
    generator: Generator = "tiny-self-correct",
    detector: Detector = "pictograms",
    groups: Groups = 1000,
    paths: Redrawn = 16,
    keep: Keep = 4,
    temperature: Temperature = None,
    seed: Seed = 0,
    precision: Precision = None,
    workers: Workers = 1,
    on: On = LOCAL,
) -> None:
    """Draw rejected images again from prompt, image and reasons, and label the results: pairs for a better correction.

    Example:

      imagecot curate redraws --data runs/corrections --generator runs/self-correct --out runs/redraws
    """
    from imagecot.curation.recipes import CurateRedraws

    check_precision(precision)
    asked = {
        "data": data,
        "output": out,
        "generator": generator,
        "detector": detector,
        "groups": groups,
        "paths": paths,
    }
    _curate(
        CurateRedraws,
        **asked,
        keep=keep,
        temperature=temperature,
        seed=seed,
        precision=precision,
        workers=workers,
        on=on,
    )


@app.command(cls=LoggedCommand)
def export(*, data: Curated, out: Out) -> None:
    """Write a curated folder as LLaVA conversations: data.json and images/.

    Example:

      imagecot curate export --data runs/parm --out runs/parm-llava
    """
    from imagecot.curation.recipes import CurateExport

    _curate(CurateExport, data=data, output=out)


@app.command("import", cls=LoggedCommand)
def import_(*, file: Conversations, images: Images, out: Out) -> None:
    """Read LLaVA conversations, such as the paper's released data, into a curated folder.

    Example:

      imagecot curate import --file parm.json --images . --out runs/parm-released
    """
    from imagecot.curation.recipes import CurateImport

    _curate(CurateImport, file=file, images=images, output=out)


def _curate(kind: "type[Recipe]", **asked: object) -> None:
    """Check what the options ask for, and do it."""
    from imagecot.recipes import check

    follow(check(asked, kind, "what was asked for"))


def follow(recipe: "Recipe", command: str = "") -> None:
    """Do what a recipe says, and print what came of it.

    command  what the user typed where that names the recipe
    """
    from imagecot.curation.follow import run
    from imagecot.curation.recipes import Whole

    goes_on = "the same command continues where this run was"
    with continuing("run the same command again" if isinstance(recipe, Whole) else goes_on):
        found = run(recipe, watch=terminal())
    if launched()[0] == 0:
        typer.echo(f"{found.told}: {found.place}")
