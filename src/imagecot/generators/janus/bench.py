"""What a Janus passes its codes through, for `imagecot benchmark`."""

from typing import TYPE_CHECKING

from torch import nn

from imagecot.generators.janus.config import JanusParts
from imagecot.generators.raster.bench import RasterBench
from imagecot.generators.raster.generator import Raster

if TYPE_CHECKING:
    from imagecot.generators.janus.generator import JanusGenerator


def bench(generator: "JanusGenerator", raster: Raster) -> RasterBench:
    """The steps of a Janus, taken apart; `raster` is what draws in it."""
    model, parts = generator.model.model, JanusParts.of(generator.model.config)
    return RasterBench(
        raster=raster,
        scorer=generator,
        model=generator.model,
        reading=nn.ModuleList([model.language_model.layers, model.generation_aligner]),
        head=model.generation_head,
        attended=parts.text.num_hidden_layers * parts.text.num_attention_heads * parts.head_dim,
    )
