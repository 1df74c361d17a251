"""Reading models that are computed here under the names of parts and tensors that transformers gives them."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from imagecot.errors import ImagecotError
from imagecot.generators.language import Angles, Language, LanguageSizes
from imagecot.weights import NoInitialWeights, load_state_dict, misfits

WEIGHTS = "model.safetensors"
_HEAD, _EMBEDDED = "lm_head.weight", "model.language_model.embed_tokens.weight"


class Speaking(Protocol):
    """A module with a language model inside, and a head on top of it."""

    lm_head: nn.Linear

    @property
    def language(self) -> Language:
        """The language model."""
        ...


Made = TypeVar("Made", bound=Speaking)


def unchanged(name: str) -> str:
    """The name of a tensor in a file that calls it as the model does."""
    return name


def filled(
    make: Callable[[], Made],
    folder: Path,
    dtype: torch.dtype,
    device: torch.device | None,
    sizes: LanguageSizes,
    *,
    tied: bool,
    renamed: Callable[[str], str] = unchanged,
) -> Made | None:
    """A model with the weights of a checkpoint folder, in a type, on a device (the CPU).

    make     makes it without weights
    tied     whether the head has the weights of the embedding, and the file none of its own
    renamed  what a tensor of the file is called in the model

    None where the weights are not one file, or do not fit or cannot be read: what is wrong says transformers.
    """
    others = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin") or not file.is_file()]
    if [file.name for file in others] != [WEIGHTS]:
        return None
    with torch.device("meta"), NoInitialWeights():
        model = make()
    assert isinstance(model, nn.Module)
    try:
        loaded = load_state_dict(folder / WEIGHTS, device, dtype)
    except ImagecotError:
        return None
    tensors = {renamed(name): tensor for name, tensor in loaded.items()}
    if len(tensors) < len(loaded) or (tied and (_HEAD in tensors or _EMBEDDED not in tensors)):
        return None
    tensors |= {_HEAD: tensors[_EMBEDDED]} if tied else {}
    if misfits(model.state_dict(), tensors):
        return None
    model.load_state_dict(tensors, assign=True)
    if tied:
        model.lm_head.weight = model.language.embed_tokens.weight
    model.language.rotary_emb = Angles(sizes.head_dim, sizes.theta).to(device)
    model.eval()
    return model
