"""The kinds of recipes: which class checks a recipe of a kind, which function follows it, and whose command it is.

Everything is named by a string and imported when a recipe of its kind is there.
"""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol

from imagecot.watch import SILENT, Watch

if TYPE_CHECKING:
    from pydantic import BaseModel

TRAIN, STUDY, EVALUATE, CURATE, BENCHMARK, GENERATE = "train", "study", "evaluate", "curate", "benchmark", "generate"
GENEVAL2 = "geneval2"  # a command of `imagecot evaluate`


class Follow(Protocol):
    """Does what a recipe of its kind says, and returns what came of it."""

    def __call__(self, recipe: "BaseModel", /, *, watch: Watch = SILENT) -> object:
        """Errors are of the room: UsageError for what cannot be asked for, ImagecotError for what cannot be done."""
        ...


@dataclass(frozen=True)
class Kind:
    """What a kind of recipe is.

    recipe   `module:Class`, a pydantic model whose field `kind` says the name
    follow   `module:function`, a `Follow` of recipes of that class
    command  the command of `imagecot` that is about it; its module in `imagecot.commands` has `follow`, which follows
             a recipe and prints what came of it
    as_said  whether bfloat16 is kept where the processor has none, since that is what is measured
    """

    recipe: str
    follow: str
    command: str
    as_said: bool = False

    def model(self) -> "type[BaseModel]":
        """The class of its recipes."""
        found: type[BaseModel] = resolve_name(self.recipe)
        return found

    def function(self) -> Follow:
        """What follows its recipes."""
        found: Follow = resolve_name(self.follow)
        return found


def _curation(name: str) -> Kind:
    return Kind(f"imagecot.curation.recipes:{name}", "imagecot.curation.follow:run", CURATE)


_DRAWN = "imagecot.worlds.drawn.training"
KINDS = {
    "tokenizer": Kind(f"{_DRAWN}.tokenizer:TokenizerRecipe", f"{_DRAWN}.tokenizer:train_tokenizer", TRAIN),
    "detector": Kind(f"{_DRAWN}.detector:DetectorRecipe", f"{_DRAWN}.detector:train_detector", TRAIN),
    "generator": Kind(f"{_DRAWN}.generator:GeneratorRecipe", f"{_DRAWN}.generator:train_generator", TRAIN),
    "janus-tokenizer": Kind(
        f"{_DRAWN}.janus_tokenizer:JanusTokenizerRecipe", f"{_DRAWN}.janus_tokenizer:train_janus_tokenizer", TRAIN
    ),
    "janus-generator": Kind(
        f"{_DRAWN}.janus_generator:JanusGeneratorRecipe", f"{_DRAWN}.janus_generator:train_janus_generator", TRAIN
    ),
    "verifier": Kind(f"{_DRAWN}.verifier:VerifierRecipe", f"{_DRAWN}.verifier:train_verifier", TRAIN),
    "reward-model": Kind(
        "imagecot.reward_models.recipe:FineTuneRecipe", "imagecot.reward_models.finetune:train_answers", TRAIN
    ),
    "dpo": Kind("imagecot.alignment.dpo:DpoRecipe", "imagecot.alignment.dpo:train_dpo", TRAIN),
    "iterative-dpo": Kind(
        "imagecot.alignment.iterate:IterativeRecipe", "imagecot.alignment.iterate:train_iteratively", TRAIN
    ),
    "self-correction": Kind(
        "imagecot.alignment.drawn_self_correction:SelfCorrectionRecipe",
        "imagecot.alignment.drawn_self_correction:train_self_correction",
        TRAIN,
    ),
    "study": Kind("imagecot.study.recipe:StudyRecipe", "imagecot.study.follow:run", STUDY),
    "corrections-study": Kind("imagecot.study.corrections:CorrectionsRecipe", "imagecot.study.follow:run", STUDY),
    "audit": Kind("imagecot.study.audit:AuditRecipe", "imagecot.study.follow:run", STUDY),
    "frontier": Kind("imagecot.study.frontier.recipe:FrontierRecipe", "imagecot.study.follow:run", STUDY),
    "geneval": Kind("imagecot.evaluation.recipe:EvaluationRecipe", "imagecot.evaluation.follow:run", EVALUATE),
    "geneval2": Kind(
        "imagecot.evaluation.geneval2.recipe:Geneval2Recipe", "imagecot.evaluation.geneval2.follow:run", GENEVAL2
    ),
    "curate-prompts": _curation("CuratePrompts"),
    "curate-orm": _curation("CurateOrm"),
    "curate-prm": _curation("CuratePrm"),
    "curate-parm": _curation("CurateParm"),
    "curate-pairs": _curation("CuratePairs"),
    "curate-reflection": _curation("CurateReflection"),
    "curate-repairs": _curation("CurateRepairs"),
    "curate-corrections": _curation("CurateCorrections"),
    "curate-redraws": _curation("CurateRedraws"),
    "curate-export": _curation("CurateExport"),
    "curate-import": _curation("CurateImport"),
    "benchmark": Kind(
        "imagecot.benchmark.recipe:BenchmarkRecipe", "imagecot.benchmark.follow:run", BENCHMARK, as_said=True
    ),
    "generate": Kind("imagecot.generation.recipe:GenerationRecipe", "imagecot.generation.follow:run", GENERATE),
}


def of_command(command: str) -> list[str]:
    """The kinds that a command is about."""
    return [name for name, kind in KINDS.items() if kind.command == command]
