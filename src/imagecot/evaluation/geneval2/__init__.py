"""Images scored by GenEval 2: those that there are, or drawn here; what `imagecot evaluate geneval2` does.

from imagecot.evaluation.geneval2 import Geneval2Recipe, run
found = run(Geneval2Recipe(data="geneval2_data.jsonl", generator="deepseek-community/Janus-Pro-1B", output="runs/two"))
print(found.score.overall.gm.mean)
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.evaluation.geneval2.follow import run
    from imagecot.evaluation.geneval2.recipe import Geneval2Recipe

__all__ = ["Geneval2Recipe", "run"]
__getattr__ = attributes(__name__, {"Geneval2Recipe": "recipe", "run": "follow"})
