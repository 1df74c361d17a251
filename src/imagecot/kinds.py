"""The kinds of recipes: which class checks a recipe of a kind, which function follows it, and whose command it is.

Everything is named by a string and imported when a recipe of its kind is there.
"""

from dataclasses import dataclass

TRAIN, STUDY, EVALUATE, CURATE = "train", "study", "evaluate", "curate"


@dataclass(frozen=True)
class Kind:
    """What a kind of recipe is.

    recipe   `module:Class`, a pydantic model whose field `kind` says the name
    follow   `module:function`, called with a recipe of that class and `watch=`
    command  the command of `imagecot` that is about it; its module in `commands` prints what `follow` returns
    """

    recipe: str
    follow: str
    command: str


def _curation(name: str) -> Kind:
    return Kind(f"imagecot.curation.recipe:{name}", "imagecot.curation.follow:run", CURATE)


_DRAWN = "imagecot.worlds.drawn.training"
KINDS = {
    "tokenizer": Kind(f"{_DRAWN}.tokenizer:TokenizerRecipe", f"{_DRAWN}.tokenizer:train_tokenizer", TRAIN),
    "detector": Kind(f"{_DRAWN}.detector:DetectorRecipe", f"{_DRAWN}.detector:train_detector", TRAIN),
    "generator": Kind(f"{_DRAWN}.generator:GeneratorRecipe", f"{_DRAWN}.generator:train_generator", TRAIN),
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
    "geneval": Kind("imagecot.evaluation.recipe:GenevalRecipe", "imagecot.evaluation.follow:run", EVALUATE),
    "curate-prompts": _curation("PromptsRecipe"),
    "curate-orm": _curation("OrmRecipe"),
    "curate-prm": _curation("PrmRecipe"),
    "curate-parm": _curation("ParmRecipe"),
    "curate-pairs": _curation("PairsRecipe"),
    "curate-reflection": _curation("ReflectionRecipe"),
    "curate-repairs": _curation("RepairsRecipe"),
    "curate-corrections": _curation("CorrectionsRecipe"),
    "curate-redraws": _curation("RedrawsRecipe"),
    "curate-export": _curation("ExportRecipe"),
    "curate-import": _curation("ImportRecipe"),
    "benchmark": Kind("imagecot.benchmark.recipe:BenchmarkRecipe", "imagecot.benchmark.follow:run", "benchmark"),
    "generate": Kind("imagecot.generation.recipe:GenerationRecipe", "imagecot.generation.follow:run", "generate"),
}


def of_command(command: str) -> list[str]:
    """The kinds that a command follows."""
    return [name for name, kind in KINDS.items() if kind.command == command]
