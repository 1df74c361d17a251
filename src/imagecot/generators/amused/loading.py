"""Loading aMUSEd from a folder of diffusers: U-ViT, VQ-GAN, CLIP's text encoder and tokenizer, schedule of masks."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from imagecot.adapters import merge
from imagecot.checkpoint import AGAIN, CONFIG, PIPELINE, TRUNK, is_file, parts_of
from imagecot.errors import ImagecotError
from imagecot.families import Checkpoint
from imagecot.foreign import first, foreign, load_model, load_tokenizer
from imagecot.generators.amused.config import Scheduling, UVitConfig, VqConfig
from imagecot.generators.amused.generator import MOST, MOST_AESTHETIC, MOST_STEPS, AmusedGenerator
from imagecot.generators.amused.text import TextEncoder
from imagecot.generators.settings import read_defaults
from imagecot.precision import Device, Dtype, as_device, loaded_as, quantize
from imagecot.reading import Foreign, read_object, read_record
from imagecot.weights import load_whole

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.uvit_2d import UVit2DModel

SCHEDULER, TOKENIZER, TEXT, IMAGE = "scheduler", "tokenizer", "text_encoder", "vqvae"
_UNUSED = "position_ids"  # of CLIP: in older files, and in no model any more


class Decoding(Foreign):
    """What of decoding a checkpoint brings along, in its generation_config.json."""

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 12
    guidance_scale: Annotated[float, Field(ge=1, le=MOST)] = 10.0
    temperature: Annotated[float, Field(ge=0, le=MOST)] = 2.0
    negative_prompt: str = ""
    aesthetic_score: Annotated[float, Field(ge=0, le=MOST_AESTHETIC)] = 6.0


class _Length(Foreign):
    """Tokens that a prompt is padded to, in `tokenizer_config.json`."""

    model_max_length: Annotated[int, Field(ge=1)] | None = None


def load(checkpoint: Checkpoint, device: Device = None, dtype: Dtype = None) -> AmusedGenerator:
    """Load a generator with all its parts; adapters are merged.

    device  the GPU where there is one, else the CPU
    dtype   of U-ViT and text encoder, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a
            GPU, float32 on the CPU; the image tokenizer stays float32

    UsageError for a device or type that is not there; ImagecotError where a part is missing, damaged, or does not go
    with the others.
    """
    device = as_device(device)
    base, *adapters = checkpoint.parts
    generator = _load_base(base, device, loaded_as(dtype, device))
    for folder in adapters:
        generator.model = merge(generator.model, folder)
        generator = generator.adjusted(**read_defaults(folder, Decoding))
    if dtype == "int8":
        model = generator.model
        model.transformer_layers, generator.precision = quantize(model.transformer_layers), "int8"
    return generator


def _load_base(folder: Path, device: torch.device, dtype: torch.dtype) -> AmusedGenerator:
    """Load a generator whose weights are whole."""
    parts = parts_of(folder)
    for name in (TRUNK, IMAGE, TEXT, TOKENIZER, SCHEDULER):
        if name not in parts:
            raise ImagecotError(f"{folder / PIPELINE} names no part {name!r}, which aMUSEd needs; {AGAIN}.")
    sizes, image_sizes = UVitConfig.from_pretrained(parts[TRUNK]), VqConfig.from_pretrained(parts[IMAGE])
    steps = read_record(parts[SCHEDULER] / "scheduler_config.json", Scheduling, advice=AGAIN)
    _check_together(folder, sizes, image_sizes, steps)
    text = _load_text(parts[TEXT], parts[TOKENIZER], device, dtype)
    for wanted, given, what in (
        (sizes.encoder_hidden_size, text.model.config.hidden_size, "hidden_size"),
        (sizes.cond_embed_dim, text.model.config.projection_dim, "projection_dim"),
    ):
        if wanted != given:
            raise ImagecotError(
                f"{parts[TEXT] / CONFIG}: {what} is {given}, but the {TRUNK} beside it reads {wanted}; take the text "
                "encoder that it was trained with."
            )
    generator = AmusedGenerator(
        model=_load_uvit(parts[TRUNK], sizes, device, dtype),
        image_tokenizer=_load_vq(parts[IMAGE], device),
        text=text,
        sizes=sizes,
        image_sizes=image_sizes,
        mask_id=steps.mask_token_id,
        folder=folder,
        schedule=steps.masking_schedule,
        precision=str(dtype).removeprefix("torch."),
    )
    return generator.adjusted(**read_defaults(folder, Decoding))


def _check_together(folder: Path, sizes: UVitConfig, tokenizer: VqConfig, steps: Scheduling) -> None:
    """Raise ImagecotError where codes, mask or grid of the parts do not go together."""
    if tokenizer.num_vq_embeddings != sizes.codebook_size:
        raise ImagecotError(
            f"{folder / IMAGE} has {tokenizer.num_vq_embeddings} codes (num_vq_embeddings) but {folder / TRUNK} draws "
            f"with {sizes.codebook_size} (codebook_size); take the one that it was trained with."
        )
    if not sizes.codebook_size <= steps.mask_token_id < sizes.vocab_size:
        raise ImagecotError(
            f"{folder / SCHEDULER}: mask_token_id is {steps.mask_token_id}, but it must come behind the "
            f"{sizes.codebook_size} codes and before vocab_size {sizes.vocab_size}; {AGAIN}."
        )


def _load_uvit(folder: Path, sizes: UVitConfig, device: torch.device, dtype: torch.dtype) -> "UVit2DModel":
    """The U-ViT of a folder."""
    from diffusers.models.unets.uvit_2d import UVit2DModel

    def make() -> "UVit2DModel":
        with foreign(f"{folder / CONFIG} describes no U-ViT that diffusers can build"):
            return UVit2DModel(**dataclasses.asdict(sizes))

    return load_whole(make, folder, device, dtype)


def _load_vq(folder: Path, device: torch.device) -> "VQModel":
    """The image tokenizer of a folder."""
    from diffusers.models.autoencoders.vq_model import VQModel

    values = {name: value for name, value in read_object(folder / CONFIG, advice=AGAIN).items() if name[:1] != "_"}

    def make() -> "VQModel":
        with foreign(f"{folder / CONFIG} describes no image tokenizer that diffusers can build"):
            return VQModel(**values)

    return load_whole(make, folder, device, torch.float32)


def _load_text(folder: Path, tokenizer: Path, device: torch.device, dtype: torch.dtype) -> TextEncoder:
    """CLIP's text encoder and tokenizer."""
    from transformers import CLIPTextModelWithProjection

    model, report = load_model(CLIPTextModelWithProjection, folder, dtype)
    assert isinstance(model, CLIPTextModelWithProjection)
    unknown = {name for name in report.unexpected if not name.endswith(_UNUSED)}
    for what, names in (("lack", report.missing), ("have unknown", unknown), ("misfit", report.mismatched)):
        if names:
            raise ImagecotError(
                f"the weights in {folder} do not fit its {CONFIG}: they {what} {len(names)} tensor(s), such as "
                f"{first(names)}; {AGAIN}."
            )
    place: nn.Module = model  # the stub of `to` asks for a model
    place.to(device).requires_grad_(False)
    most = model.config.max_position_embeddings
    file = tokenizer / "tokenizer_config.json"
    said = read_record(file, _Length, advice=AGAIN).model_max_length if is_file(file) else None
    if said is not None and said > most:
        raise ImagecotError(
            f"{file}: model_max_length is {said}, but {folder} reads {most} tokens (max_position_embeddings); {AGAIN}."
        )
    found = load_tokenizer(tokenizer)
    if len(found) > model.config.vocab_size:
        raise ImagecotError(
            f"the tokenizer in {tokenizer} has {len(found)} entries, but {folder} knows {model.config.vocab_size} "
            "(vocab_size); take the one that it was trained with."
        )
    return TextEncoder(model.eval(), found, said or most)
