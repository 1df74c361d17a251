"""Images scored by GenEval: those of a folder, or drawn here; what `imagecot evaluate geneval` does, from Python too.

from imagecot.evaluation import EvaluationRecipe, run
summary = run(EvaluationRecipe(generator="tiny", per_task=5, output="runs/few"))
print(summary.score.overall)
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.evaluation.follow import run
    from imagecot.evaluation.recipe import EvaluationRecipe

__all__ = ["EvaluationRecipe", "run"]
__getattr__ = attributes(__name__, {"EvaluationRecipe": "recipe", "run": "follow"})
