"""What a LlamaGen passes its codes through, for `imagecot benchmark`."""

from typing import TYPE_CHECKING

from imagecot.generators.raster.bench import RasterBench
from imagecot.generators.raster.generator import Raster

if TYPE_CHECKING:
    from imagecot.generators.llamagen.generator import LlamaGenGenerator


def bench(generator: "LlamaGenGenerator", raster: Raster) -> RasterBench:
    """The steps of a LlamaGen, taken apart; `raster` is what draws in it."""
    model, config = generator.model, generator.model.config
    return RasterBench(
        raster=raster,
        scorer=generator,
        model=model,
        reading=model.layers,
        head=model.output,
        attended=config.n_layer * config.n_head * config.head_dim,
    )
