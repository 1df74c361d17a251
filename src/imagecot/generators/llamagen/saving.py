"""Copies of a LlamaGen, and the files of a checkpoint."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch

from imagecot.checkpoint import is_checkpoint, read_config
from imagecot.contracts.values import JSON
from imagecot.generators.llamagen.model import LlamaGen
from imagecot.generators.llamagen.text import TextEncoder
from imagecot.generators.llamagen.vq16 import VQ16
from imagecot.generators.settings import write_defaults
from imagecot.naming import inside
from imagecot.weights import save_checkpoint

# The linear layers of the blocks.
ADAPTED_LAYERS = r".*layers\..*\.(wqkv|wo|w1|w2|w3)"


def copied(model: LlamaGen, dtype: torch.dtype) -> LlamaGen:
    """A copy of the model in another number format."""
    return copy.deepcopy(model).to(dtype).eval()


def save(
    model: LlamaGen,
    image_tokenizer: VQ16,
    text_encoder: TextEncoder,
    decoding: Mapping[str, JSON],
    folder: Path,
    source: Path | None,
) -> None:
    """Write a checkpoint folder: whole weights in half precision, and decoding defaults.

    source  the folder whose image tokenizer, text encoder, if they lie in it, and known words come along
    """
    config = model.config
    parts = ((config.vq_model, image_tokenizer.save_pretrained), (config.text_encoder, text_encoder.save_pretrained))
    for name, write in parts:
        own = inside(source, name) if source else None
        if own is not None and is_checkpoint(own):
            write(folder / name)
    words = read_config(source).get("known_words") if source else None
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_checkpoint(folder, config.to_dict() | ({"known_words": words} if words else {}), state)
    write_defaults(folder, decoding)
