"""Loading a LlamaGen: its transformer, image tokenizer and text encoder, and how a checkpoint likes to be decoded."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from imagecot.adapters import merge
from imagecot.checkpoint import CONFIG
from imagecot.errors import ImagecotError
from imagecot.families import Checkpoint
from imagecot.generators.llamagen import text
from imagecot.generators.llamagen.config import LlamaGenConfig
from imagecot.generators.llamagen.generator import LlamaGenGenerator
from imagecot.generators.llamagen.model import LlamaGen
from imagecot.generators.llamagen.text import TextEncoder
from imagecot.generators.llamagen.vq16 import VQ16
from imagecot.generators.raster.sampling import MOST
from imagecot.generators.settings import read_defaults
from imagecot.hub import WEIGHTS, find, related
from imagecot.precision import Device, Dtype, as_device, loaded_as, quantize
from imagecot.reading import Foreign


class Decoding(Foreign):
    """What of decoding a checkpoint brings along, in its generation_config.json; null is not said."""

    guidance_scale: Annotated[float, Field(ge=1, le=MOST)] | None = None
    temperature: Annotated[float, Field(ge=0, le=MOST)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    cfg_interval: Annotated[int, Field(ge=-1)] | None = None
    fill: Literal["blank", "repeat", "draft"] | None = None


def load(checkpoint: Checkpoint, device: Device = None, dtype: Dtype = None) -> LlamaGenGenerator:
    """Load a generator with its image tokenizer and text encoder; adapters are merged.

    device  the GPU where there is one, else the CPU
    dtype   of transformer and text encoder, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16
            on a GPU, float32 on the CPU; the image tokenizer is float32 always

    UsageError for a device or type that is not there; ImagecotError where a part cannot be had or read, or where parts
    do not go together.
    """
    device = as_device(device)
    number_format = loaded_as(dtype, device)
    base, *adapters = checkpoint.parts
    config = LlamaGenConfig.from_pretrained(base)
    reads = _part(base, config.text_encoder, "text encoder", "text_encoder", text.FILES)
    draws = _part(base, config.vq_model, "image tokenizer", "vq_model", WEIGHTS)
    image_tokenizer = VQ16.from_pretrained(draws, device=device, dtype=torch.float32)
    if image_tokenizer.config.codebook_size != config.vocab_size:
        raise ImagecotError(
            f"{draws} has {image_tokenizer.config.codebook_size} codes but {base} draws with {config.vocab_size}; set "
            "vq_model in its config.json to the one it was trained with."
        )
    text_encoder = TextEncoder.from_pretrained(reads, config, device=device, dtype=number_format)
    model = LlamaGen.from_pretrained(base, device=device, dtype=number_format)
    settings = read_defaults(base, Decoding)
    for folder in adapters:
        model = merge(model, folder)
        settings |= read_defaults(folder, Decoding)
    precision = str(number_format).removeprefix("torch.")
    if dtype == "int8":
        model.layers, precision = quantize(model.layers), "int8"
    generator = LlamaGenGenerator(model, image_tokenizer, text_encoder, precision=precision, folder=base)
    return generator.adjusted(**settings)


def _part(folder: Path, name: str, what: str, field: str, files: tuple[str, ...]) -> Path:
    """The folder of a part of a checkpoint; ImagecotError where there is none."""
    place = related(folder, name, lambda wanted: find(wanted, files))
    if place is None:
        raise ImagecotError(f"{folder / CONFIG}: there is no {what} {name!r} ({field}); name its folder or hub id.")
    return place
