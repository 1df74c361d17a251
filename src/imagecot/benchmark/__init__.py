"""How fast drawing and judging are here, beside a plain decoder and beside what the machine can give.

from imagecot.benchmark import BenchmarkRecipe, run
result = run(BenchmarkRecipe(generator="tiny", verifier="tiny-zero-shot"))
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.benchmark.follow import run
    from imagecot.benchmark.recipe import BenchmarkRecipe

__all__ = ["BenchmarkRecipe", "run"]
__getattr__ = attributes(__name__, {"BenchmarkRecipe": "recipe", "run": "follow"})
