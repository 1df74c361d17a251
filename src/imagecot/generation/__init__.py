"""One prompt drawn, searched and left in a folder: what `imagecot generate` does, from Python too.

from imagecot.generation import GenerationRecipe, run
trace = run(GenerationRecipe(prompt="a photo of a red apple", output="runs/apple"))
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.generation.follow import run
    from imagecot.generation.recipe import GenerationRecipe

__all__ = ["GenerationRecipe", "run"]
__getattr__ = attributes(__name__, {"GenerationRecipe": "recipe", "run": "follow"})
