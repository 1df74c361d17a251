"""Loading a Janus: its weights, prompts, and how a checkpoint likes to be decoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from imagecot.adapters import merge
from imagecot.checkpoint import AGAIN, CONFIG, read_config
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.families import Checkpoint
from imagecot.foreign import check_sizes, first, foreign, load_model
from imagecot.generators.janus import lean
from imagecot.generators.janus.config import JanusParts
from imagecot.generators.janus.generator import JanusGenerator
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.janus.weights import cast
from imagecot.generators.raster.sampling import MOST
from imagecot.generators.settings import read_defaults
from imagecot.precision import Device, Dtype, as_device, loaded_as, quantize
from imagecot.reading import Foreign

if TYPE_CHECKING:
    from transformers import JanusConfig, JanusForConditionalGeneration

_DRAWS = ("model.generation_", "model.vqmodel.")  # without these a Janus only sees and writes
_STORED = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Decoding(Foreign):
    """What of decoding a checkpoint brings along, in its generation_config.json; null is not said."""

    guidance_scale: Annotated[float, Field(ge=1, le=MOST)] | None = None
    temperature: Annotated[float, Field(ge=0, le=MOST)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    fill: Literal["blank", "repeat", "draft"] | None = None


def load(checkpoint: Checkpoint, device: Device = None, dtype: Dtype = None) -> JanusGenerator:
    """Load a generator with its image tokenizer and prompts; adapters are merged.

    device  the GPU where there is one, else the CPU
    dtype   of the transformer, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a GPU,
            float32 on the CPU; the image tokenizer is float32 always

    UsageError for a device or type that is not there; ImagecotError where the checkpoint cannot be had or read, or has
    no part that draws.
    """
    device = as_device(device)
    number_format = loaded_as(dtype, device)
    base, *adapters = checkpoint.parts
    # What is quick to read comes first, so that a mistake in it is told before gigabytes are read.
    settings: dict[str, JSON] = {}
    for folder in checkpoint.parts:
        settings |= read_defaults(folder, Decoding)
    values = read_config(base)
    stored = _STORED.get(str(values.get("dtype") or values.get("torch_dtype")), torch.float32)
    check_sizes(base, values)
    own = lean.read(base, values, stored, device)
    prompting = JanusPrompting.from_pretrained(base, own.config if own is not None else _config(base, values))
    model: lean.AnyJanus = cast(own if own is not None else _load_model(base, stored), number_format)
    nn.Module.to(model, device)
    for folder in adapters:
        merge(model, folder)
    precision = str(number_format).removeprefix("torch.")
    if dtype == "int8":
        trunk = model.model.language_model
        trunk.layers, precision = quantize(trunk.layers), "int8"
    model.eval()
    return JanusGenerator(model, prompting, precision=precision, folder=base).adjusted(**settings)


def _config(folder: Path, values: Mapping[str, JSON]) -> "JanusConfig":
    """The configuration of a folder, whose parts go together; `values` are its config.json."""
    from transformers import JanusConfig

    text = values.get("text_config")
    kind = text.get("model_type", "llama") if isinstance(text, dict) else "llama"
    if kind != "llama":
        raise ImagecotError(
            f"{folder / CONFIG}: text_config is of the type {kind!r}, but Janus draws with a llama; pass a Janus or "
            "Janus-Pro."
        )
    with foreign(f"{folder / CONFIG} describes no model that transformers can build"):
        config: JanusConfig = JanusConfig.from_pretrained(folder, local_files_only=True)
        parts = JanusParts.of(config)
    side, count = parts.vq.num_patches, parts.vision.num_image_tokens
    if count != parts.positions:
        raise ImagecotError(
            f"{folder / CONFIG}: vision_config.num_image_tokens is {count}, but image_size and patch_size make a grid "
            f"of {side} x {side} codes; see that they are those of the weights."
        )
    width = parts.text.hidden_size
    sizes = {"projection_dim": parts.vq.projection_dim, "image_token_embed_dim": parts.vq.image_token_embed_dim}
    for name, size in sizes.items():
        if size != width:
            raise ImagecotError(
                f"{folder / CONFIG}: vq_config.{name} is {size}, but the states of the language model have {width} "
                f"numbers (text_config.hidden_size); {AGAIN}."
            )
    return config


def _load_model(folder: Path, stored: torch.dtype) -> "JanusForConditionalGeneration":
    """The model of a folder as transformers has it, in a number format."""
    from transformers import JanusForConditionalGeneration

    model, report = load_model(JanusForConditionalGeneration, folder, stored)
    assert isinstance(model, JanusForConditionalGeneration)
    lost = [name for name in report.missing if name.startswith(_DRAWS)]
    if lost and len(lost) == len(report.missing) and not report.mismatched:
        raise ImagecotError(
            f"the weights in {folder} draw no images: {len(lost)} tensor(s) of the generation head or the image "
            f"tokenizer are missing, such as {first(lost)}; pass a Janus that draws."
        )
    problems = [
        f"{what} {len(names)} tensor(s), such as {first(names)}"
        for what, names in (
            ("lack", report.missing),
            ("have unknown", report.unexpected),
            ("misfit", report.mismatched),
        )
        if names
    ]
    if problems:
        raise ImagecotError(f"the weights in {folder} do not fit its config.json: they {'; they '.join(problems)}.")
    return model
