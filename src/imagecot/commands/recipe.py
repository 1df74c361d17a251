"""`imagecot train`, `imagecot study` and `imagecot validate`: recipes, and the functions that follow them."""

import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagecot.commands.output import nearest, say, waiting
from imagecot.errors import UsageError
from imagecot.interruption import continuing

if TYPE_CHECKING:
    from pydantic import BaseModel

# kind -> module, recipe, function
TRAININGS = {
    "tokenizer": ("imagecot.worlds.drawn.training.tokenizer", "TokenizerRecipe", "train_tokenizer"),
    "generator": ("imagecot.worlds.drawn.training.generator", "GeneratorRecipe", "train_generator"),
    "verifier": ("imagecot.worlds.drawn.training.verifier", "VerifierRecipe", "train_verifier"),
    "verifier (fine-tuning)": ("imagecot.reward_models.finetune", "FineTuneRecipe", "train_answers"),
    "dpo": ("imagecot.alignment.dpo", "DpoRecipe", "train_dpo"),
    "dpo (iterative)": ("imagecot.alignment.iterate", "IterativeRecipe", "train_iteratively"),
    "self-correction": (
        "imagecot.alignment.drawn_self_correction",
        "SelfCorrectionRecipe",
        "train_self_correction",
    ),
    "detector": ("imagecot.worlds.drawn.training.detector", "DetectorRecipe", "train_detector"),
}
STUDIES = {
    "study": ("imagecot.study.run", "StudyRecipe", "run"),
    "study (corrections)": ("imagecot.study.corrections", "CorrectionsRecipe", "run"),
}

# What recipes call bfloat16, and float32 in the same place.
_INSTEAD = {("precision", "bfloat16"): "float32", ("precision", "bf16"): "no", ("bf16", True): False}

KINDS = list(dict.fromkeys(name.split(" ")[0] for name in TRAININGS))

Kind = Annotated[
    str,
    typer.Argument(
        help="What is trained.",
        metavar="|".join(KINDS),
        autocompletion=lambda: KINDS,
        show_default=False,
    ),
]
RecipeFile = Annotated[Path, typer.Argument(help="A YAML file, such as those in recipes/.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value with dotted keys.", show_default=False)]


def train(kind: Kind, recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Train a model by a recipe; an interrupted training is resumed by the same command.

    Examples:

      imagecot train tokenizer recipes/tiny/tokenizer.yaml

      imagecot train generator recipes/tiny/generator.yaml optimization.steps=100
    """
    if kind not in KINDS:
        raise nearest("training", kind, KINDS)
    ways = {name: how for name, how in TRAININGS.items() if name.split(" ")[0] == kind}
    _, checked, function = _read(recipe, overrides, ways)
    from imagecot.launch import leftovers
    from imagecot.training.output import is_finished

    if leftovers():
        say(f"{', '.join(leftovers())} in the environment are of no running launcher; training is one process.")
    output = checked.output  # type: ignore[attr-defined]
    before = is_finished(output)
    _follow(function, checked)
    if before:
        say(f"{output} was finished before; nothing is left to do.")


def study(
    recipe: RecipeFile,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(help="Processes that draw and judge.", min=1)] = 1,
    rows: Annotated[
        str, typer.Option(help="Only these rows, with commas between; give another output.", show_default=False)
    ] = "",
) -> None:
    """Compare searches and generators on held-out prompts; an interrupted study is resumed by the same command.

    Writes summary.json, and what it is made of, into the recipe's output; `imagecot report` makes a page of it. A
    recipe of corrections compares what the generator can be told of a wrong image, and writes table.md beside it.

    Examples:

      imagecot study recipes/study/tiny.yaml --workers 2

      imagecot study recipes/study/tiny.yaml --rows baseline,parm output=runs/study/parm-alone

      imagecot study recipes/study/corrections.yaml
    """
    kind, checked, function = _read(recipe, overrides, STUDIES)
    if rows and kind != "study":
        raise UsageError("a study of corrections has no rows to choose from; leave out --rows.")
    if rows:
        checked = checked.only([name.strip() for name in rows.split(",")])  # type: ignore[attr-defined]
    command = shlex.join(["imagecot", "study", str(recipe), *(overrides or [])])
    command += f" --rows {rows}" if rows else ""
    command += f" --workers {workers}" if workers > 1 else ""
    _follow(lambda study: function(study, workers=workers, command=command), checked)
    output = checked.output  # type: ignore[attr-defined]
    following = f"next: imagecot report {output}" if kind == "study" else f"{output}/table.md"
    typer.echo(f"{output}/summary.json; {following}")


def validate(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Check a recipe and name all its problems, without following it; of full-size models also say how long it takes.

    Example:

      imagecot validate recipes/show-o/dpo.yaml
    """
    from imagecot.estimate import gpu_hours

    kind, checked, _ = _read(recipe, overrides, TRAININGS | STUDIES)
    typer.echo(f"{recipe} is a valid {kind} recipe")
    found = gpu_hours(kind, checked)
    if found:
        hours, what = found
        typer.echo(f"about {hours:.2g} hours of one A100 for {what}")


def _read(
    file: Path, overrides: list[str] | None, kinds: dict[str, tuple[str, str, str]]
) -> "tuple[str, BaseModel, Callable[..., Any]]":
    """Return the kind of a recipe that fits best, the checked recipe and what follows it."""
    from imagecot.recipes import check, override, problems, read_yaml

    values = override(read_yaml(file), overrides or [])
    with waiting("loading"):
        modules = {kind: importlib.import_module(home) for kind, (home, _, _) in kinds.items()}
    models = {kind: getattr(modules[kind], kinds[kind][1]) for kind in kinds}
    wrong = {name: problems(values, models[name]) for name in kinds}
    kind = min(kinds, key=lambda name: len(wrong[name]))
    if wrong[kind]:
        _refuse_another_kind(values, file, kinds)
    recipe = check(values, models[kind], f"{file}, as a recipe of the kind {kind},")
    return kind, recipe, getattr(modules[kind], kinds[kind][2])


def _refuse_another_kind(values: dict[str, Any], file: Path, kinds: dict[str, tuple[str, str, str]]) -> None:
    """Raise UsageError where values are a recipe without fault, but of a kind that was not asked for."""
    from imagecot.recipes import problems

    for kind, (home, model, _) in (TRAININGS | STUDIES).items():
        if kind not in kinds and not problems(values, getattr(importlib.import_module(home), model)):
            command = f"imagecot study {file}" if kind in STUDIES else f"imagecot train {kind.split(' ')[0]} {file}"
            raise UsageError(f"{file} is a recipe of the kind {kind}; follow it by: {command}.")


def _follow(function: Callable[[Any], Any], recipe: "BaseModel") -> None:
    from imagecot.precision import has_bfloat16

    usable = recipe if has_bfloat16() else in_float32(recipe)
    if usable != recipe:
        say("this processor has no bfloat16; what the recipe wants in it is done in float32 instead.")
    with continuing("the same command continues from what was saved last"):
        function(usable)


def in_float32(recipe: "BaseModel") -> "BaseModel":
    """The recipe with float32 for bfloat16 in all of its parts."""
    from pydantic import BaseModel

    update: dict[str, Any] = {}
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        if isinstance(value, BaseModel):
            update[name] = in_float32(value)
        elif isinstance(value, str | bool) and (name, value) in _INSTEAD:
            update[name] = _INSTEAD[name, value]
    return recipe.model_copy(update=update)
