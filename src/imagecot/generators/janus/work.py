"""What drawing costs a Janus of given sizes."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from imagecot.checkpoint import AGAIN, CONFIG
from imagecot.generators.work import Drawing
from imagecot.reading import Foreign, read_record

_TEXT = 60  # ids of a prompt in its chat
Size = Annotated[int, Field(ge=1, le=1_000_000)]


class _Text(Foreign):
    hidden_size: Size
    num_hidden_layers: Size
    intermediate_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None


class _Vision(Foreign):
    image_size: Size = 384
    patch_size: Size = 16


class _Tokenizer(Foreign):
    num_embeddings: Size = 16384


class _Sizes(Foreign):
    """What is needed of config.json; what it leaves out is as in Janus-Pro."""

    text_config: _Text
    vision_config: _Vision = _Vision()
    vq_config: _Tokenizer = _Tokenizer()


RELEASED = {
    "deepseek-community/Janus-Pro-1B": _Sizes(
        text_config=_Text(hidden_size=2048, num_hidden_layers=24, intermediate_size=5632, num_attention_heads=16)
    ),
    "deepseek-community/Janus-Pro-7B": _Sizes(
        text_config=_Text(hidden_size=4096, num_hidden_layers=30, intermediate_size=11008, num_attention_heads=32)
    ),
}


def drawing(name: str, folder: Path | None) -> Drawing | None:
    """The work of the model in a folder, or of a released one by its name; None for any other.

    ImagecotError for a config.json of no such model.
    """
    sizes = read_record(folder / CONFIG, _Sizes, advice=AGAIN) if folder else RELEASED.get(name)
    if sizes is None:
        return None
    text, codes = sizes.text_config, sizes.vq_config.num_embeddings
    d, side = text.hidden_size, sizes.vision_config.image_size // sizes.vision_config.patch_size
    kept = d * (text.num_key_value_heads or text.num_attention_heads) // text.num_attention_heads
    layer = 2 * d * d + 2 * d * kept + 3 * d * text.intermediate_size
    return Drawing(
        weights=text.num_hidden_layers * layer
        + 2 * d * d
        + d * codes,  # an aligner before, a head of two layers behind
        tokens=side,
        steps=side,
        rows=2,
        codes=side**2,
        text=_TEXT,
        kept=2 * text.num_hidden_layers * kept,
    )
