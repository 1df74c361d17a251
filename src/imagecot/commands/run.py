"""`imagecot run`: follow a recipe of any kind, as the command of its kind does."""

from types import ModuleType

from imagecot.commands import benchmark, curate, evaluate, generate, geneval2, study, train
from imagecot.commands.recipe import Overrides, RecipeFile, taken
from imagecot.kinds import BENCHMARK, CURATE, EVALUATE, GENERATE, GENEVAL2, KINDS, STUDY, TRAIN

# Whose `follow` takes a recipe and the command line that names it, and prints what came of it.
_COMMANDS: dict[str, ModuleType] = {
    TRAIN: train,
    STUDY: study,
    EVALUATE: evaluate,
    GENEVAL2: geneval2,
    CURATE: curate,
    BENCHMARK: benchmark,
    GENERATE: generate,
}


def run(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Follow a recipe of any kind, and print what the command of its kind prints.

    What a recipe is stands in its line `kind:`. What was interrupted is resumed by the same command.

    Examples:

      imagecot run recipes/study/quick.yaml

      imagecot run recipes/tiny/dpo.yaml training.steps=5 output=runs/dpo-short
    """
    from imagecot.recipes import command_of, kind_of

    checked = taken(recipe, overrides)
    kind = kind_of(checked)
    _COMMANDS[KINDS[kind].command].follow(checked, command_of(kind, recipe, overrides or ()))
