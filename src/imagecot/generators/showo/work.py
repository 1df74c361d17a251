"""What drawing costs a Show-o of given sizes."""

from collections.abc import Mapping
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.generators.showo.config import ShowoConfig
from imagecot.generators.work import Drawing

_STEPS, _TEXT = 18, 30
RELEASED: Mapping[str, Mapping[str, JSON]] = {
    "showlab/show-o": {},
    "showlab/show-o-512x512": {"num_vq_tokens": 1024, "max_position_embeddings": 4096},
}


def drawing(name: str, folder: Path | None) -> Drawing | None:
    """The work of the model in a folder, or of a released one by its name; None for any other.

    ImagecotError for a config.json of no such model.
    """
    if folder is None and name not in RELEASED:
        return None
    sizes = ShowoConfig.from_pretrained(folder) if folder else ShowoConfig.from_dict(RELEASED[name])
    d = sizes.hidden_size
    layer = 4 * d * d + 2 * d * sizes.intermediate_size
    return Drawing(
        weights=sizes.num_hidden_layers * layer + d * sizes.codebook_size,
        tokens=sizes.num_vq_tokens + 2,  # and its marks
        steps=_STEPS,
        rows=2,
        codes=sizes.num_vq_tokens,
        text=_TEXT,
    )
