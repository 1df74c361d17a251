"""What drawing costs a LlamaGen of given sizes; its text encoder, which reads a prompt once, is left out."""

from pathlib import Path

from imagecot.generators.llamagen.config import LlamaGenConfig
from imagecot.generators.work import Drawing


def drawing(name: str, folder: Path | None) -> Drawing | None:
    """The work of the model in a folder; None without one, as none is released as a checkpoint folder.

    ImagecotError for a config.json of no such model.
    """
    if folder is None:
        return None
    sizes = LlamaGenConfig.from_pretrained(folder)
    d, kept, side = sizes.dim, sizes.kv_heads * sizes.head_dim, sizes.grid_size
    layer = 2 * d * d + 2 * d * kept + 3 * d * sizes.hidden_size
    return Drawing(
        weights=sizes.n_layer * layer + d * sizes.vocab_size,
        tokens=side,
        steps=side,
        rows=2,
        codes=sizes.block_size,
        text=sizes.cls_token_num,
        kept=2 * sizes.n_layer * kept,
    )
