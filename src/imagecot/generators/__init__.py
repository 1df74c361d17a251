"""Generators: models that draw an image from a prompt in steps, found by name, folder or hub id."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from imagecot.checkpoint import ADAPTER, AGAIN, CONFIG, is_file, read_config
from imagecot.errors import ImagecotError, UsageError
from imagecot.hub import CHECKPOINTS, GENERATOR, TOKENIZER, WEIGHTS, check_name, find, related
from imagecot.reading import Foreign, read_record

if TYPE_CHECKING:
    import torch

    from imagecot.generators.showo.config import ShowoConfig
    from imagecot.generators.showo.generator import ShowoGenerator
    from imagecot.generators.showo.magvitv2 import MagvitV2

__all__ = ["ADAPTER", "CHECKPOINTS", "DECODING", "HUB_GENERATORS", "find_checkpoint", "load_generator"]

HUB_GENERATORS = ("showlab/show-o", "showlab/show-o-512x512")
MOST_STEPS = 10_000
MOST = 1_000.0  # of guidance and temperature


class Decoding(Foreign):
    """What of decoding a checkpoint brings along, in its generation_config.json."""

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 18
    guidance_scale: Annotated[float, Field(ge=0, le=MOST)] = 1.75
    temperature: Annotated[float, Field(ge=0, le=MOST)] = 1.0


DECODING = tuple(Decoding.model_fields)


def shipped_generators() -> list[str]:
    """Return the names of the generators that the package contains."""
    from imagecot.models import shipped

    return shipped("generator")


def load_generator(
    name_or_path: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | str | None" = None,
) -> "ShowoGenerator":
    """Load a generator with its image tokenizer and prompts.

    name_or_path  a checkpoint folder, a shipped name or a hub id
    device        the GPU where there is one, else the CPU
    dtype         of the transformer, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a
                  GPU, float32 on the CPU; the image tokenizer stays float32

    UsageError for a name that is nothing of these, or a device or type that is not there; ImagecotError where the
    checkpoint cannot be had or read.
    """
    from imagecot.adapters import lineage, merge
    from imagecot.precision import as_device, loaded_as, quantize

    device = as_device(device)
    loaded_as(dtype, device)
    base, *adapters = lineage(find_checkpoint(name_or_path, GENERATOR), lambda name: find(name, GENERATOR))
    generator = _load_base(base, device, dtype)
    for folder in adapters:
        generator.model = merge(generator.model, folder)  # type: ignore[assignment]
        generator = dataclasses.replace(generator, **_decoding(folder))
    if dtype == "int8":
        layers: Any = generator.model.showo.model
        layers.layers, generator.precision = quantize(layers.layers), "int8"
    return generator


def _load_base(folder: Path, device: "torch.device", dtype: "torch.dtype | str | None") -> "ShowoGenerator":
    """Load a generator whose weights are whole, in the type that `dtype` is made of."""
    from imagecot.generators.showo import Prompting, Showo, ShowoGenerator
    from imagecot.precision import loaded_as

    values = read_config(folder)
    if "codebook_size" not in values or "llm_vocab_size" not in values:
        raise UsageError(f"{folder} is not a Show-o checkpoint by its config.json; pass a generator.")
    model = Showo.from_pretrained(folder, device=device, dtype=loaded_as(dtype, device))
    precision = str(model.dtype).removeprefix("torch.")
    text = None if is_file(folder / TOKENIZER[0]) else find(model.config.llm_model_path, TOKENIZER)
    prompting = Prompting.from_pretrained(text or folder, model.config)
    image_tokenizer = _load_image_tokenizer(folder, model.config, device)
    return ShowoGenerator(model, image_tokenizer, prompting, precision=precision, **_decoding(folder))


def _load_image_tokenizer(folder: Path, config: "ShowoConfig", device: "torch.device") -> "MagvitV2":
    """Load the image tokenizer that a generator's folder names; its codes and their grid must be the generator's."""
    import torch

    from imagecot.generators.showo import MagvitV2

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


def find_checkpoint(name: str | Path, patterns: Sequence[str]) -> Path:
    """Return the folder of a checkpoint: `name` itself, a shipped one, or a hub id, fetched where needed.

    patterns  the files wanted of a hub repository

    UsageError where `name` is none of these, ImagecotError where the hub cannot be reached.
    """
    name = check_name("generator", name)
    found = find(name, patterns)
    if found is not None:
        return found
    known = shipped_generators()
    near = difflib.get_close_matches(name, [*known, *HUB_GENERATORS], n=1)
    raise UsageError(
        f"there is no generator {name!r}{f' (did you mean {near[0]}?)' if near else ''}; "
        f"give a folder, a hub id such as {HUB_GENERATORS[0]}, or a shipped name: {', '.join(known)}."
    )


def _decoding(folder: Path) -> dict[str, Any]:
    """Read the decoding defaults that a checkpoint brings, those of DECODING."""
    file = folder / "generation_config.json"
    if not file.exists():
        return {}
    found = read_record(file, Decoding, advice=AGAIN)
    return found.model_dump(exclude_unset=True)
