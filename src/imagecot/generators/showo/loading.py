"""Loading Show-o: the transformer, its image tokenizer, its prompts, and how a checkpoint likes to be decoded."""

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from imagecot.adapters import merge
from imagecot.checkpoint import CONFIG, is_file, read_config
from imagecot.errors import ImagecotError
from imagecot.families import Checkpoint
from imagecot.generators.settings import read_defaults
from imagecot.generators.showo.config import MOST, MOST_STEPS, ShowoConfig
from imagecot.generators.showo.generator import ShowoGenerator
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo
from imagecot.generators.showo.prompting import Prompting
from imagecot.hub import TOKENIZER, WEIGHTS, find, related
from imagecot.precision import Device, Dtype, as_device, loaded_as, quantize
from imagecot.reading import Foreign


class Decoding(Foreign):
    """What of decoding a checkpoint brings along, in its generation_config.json."""

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 18
    guidance_scale: Annotated[float, Field(ge=0, le=MOST)] = 1.75
    temperature: Annotated[float, Field(ge=0, le=MOST)] = 1.0


def load(checkpoint: Checkpoint, device: Device = None, dtype: Dtype = None) -> ShowoGenerator:
    """Load a generator with its image tokenizer and prompts; adapters are merged.

    device  the GPU where there is one, else the CPU
    dtype   of the transformer, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a GPU,
            float32 on the CPU; the image tokenizer stays float32

    UsageError for a device or type that is not there; ImagecotError where the checkpoint cannot be had or read.
    """
    device = as_device(device)
    base, *adapters = checkpoint.parts
    generator = _load_base(base, device, loaded_as(dtype, device))
    for folder in adapters:
        generator.model = merge(generator.model, folder)
        generator = generator.adjusted(**read_defaults(folder, Decoding))
    if dtype == "int8":
        trunk = generator.model.showo.model
        trunk.layers, generator.precision = quantize(trunk.layers), "int8"
    return generator


def _load_base(folder: Path, device: torch.device, dtype: torch.dtype) -> ShowoGenerator:
    """Load a generator whose weights are whole."""
    model = Showo.from_pretrained(folder, device=device, dtype=dtype)
    precision = str(model.dtype).removeprefix("torch.")
    text = None if is_file(folder / TOKENIZER[0]) else find(model.config.llm_model_path, TOKENIZER)
    prompting = Prompting.from_pretrained(text or folder, model.config)
    image_tokenizer = _load_image_tokenizer(folder, model.config, device)
    generator = ShowoGenerator(model, image_tokenizer, prompting, precision=precision, folder=folder)
    return generator.adjusted(**read_defaults(folder, Decoding))


def _load_image_tokenizer(folder: Path, config: ShowoConfig, device: torch.device) -> MagvitV2:
    """Load the image tokenizer that a generator's folder names; its codes and their grid must be the generator's."""
    place = related(folder, config.vq_model, lambda name: find(name, WEIGHTS))
    if place is None:
        raise ImagecotError(
            f"{folder / CONFIG}: there is no image tokenizer {config.vq_model!r} (vq_model); name its folder or hub id."
        )
    tokenizer = MagvitV2.from_pretrained(place, device=device, dtype=torch.float32)
    if tokenizer.config.codebook_size != config.codebook_size:
        raise ImagecotError(
            f"{place} has {tokenizer.config.codebook_size} codes but {folder} draws with {config.codebook_size}; set "
            "vq_model in its config.json to the one it was trained with."
        )
    size = config.grid_size * tokenizer.config.downsample_factor
    # The published tokenizer serves images of two sizes, and its config.json names none.
    if "image_size" in read_config(place) and tokenizer.config.image_size != size:
        raise ImagecotError(
            f"{place} is of images of {tokenizer.config.image_size} pixels, but the {config.num_vq_tokens} codes of "
            f"{folder} (num_vq_tokens) make {size}; set vq_model in its config.json to the one it was trained with."
        )
    tokenizer.config = dataclasses.replace(tokenizer.config, image_size=size)
    return tokenizer
