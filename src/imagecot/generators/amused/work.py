"""What drawing costs an aMUSEd of given sizes; its text encoder, which reads a prompt once, is left out."""

from collections.abc import Mapping
from pathlib import Path

from imagecot.checkpoint import TRUNK
from imagecot.contracts.values import JSON
from imagecot.generators.amused.config import UVitConfig
from imagecot.generators.work import Drawing
from imagecot.models import parameters_of

_STEPS, _TEXT = 12, 77
RELEASED: Mapping[str, Mapping[str, JSON]] = {
    "amused/amused-256": {"sample_size": 16},
    "amused/amused-512": {"sample_size": 32, "downsample": True, "upsample": True},
}


def drawing(name: str, folder: Path | None) -> Drawing | None:
    """The work of the pipeline in a folder, or of a released one by its name; None for any other.

    ImagecotError for a config.json of no such model.
    """
    weights = parameters_of(name if folder is None else str(folder))
    if not weights or (folder is None and name not in RELEASED):
        return None
    sizes = UVitConfig.from_pretrained(folder / TRUNK) if folder else UVitConfig.from_dict(RELEASED[name])
    codes = sizes.sample_size**2
    return Drawing(
        weights=weights,
        tokens=codes // 4 if sizes.downsample else codes,  # between which all but a few layers stand
        steps=_STEPS,
        rows=2,
        codes=codes,
        text=_TEXT,
    )
