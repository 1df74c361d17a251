"""Low-rank updates of linear layers, which peft adds to a model in place and writes as an adapter of its base."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field
from torch import nn

from imagecot.errors import UsageError
from imagecot.recipe_fields import RECIPE, Batch

if TYPE_CHECKING:
    from peft import PeftModel


class Lora(BaseModel):
    """Train low-rank updates of linear layers, and leave all other weights as they are."""

    model_config = RECIPE

    r: Annotated[int, Field(strict=True, ge=1, le=4096)] = 16
    alpha: Batch = 32


def add_adapter(model: nn.Module, lora: Lora, base: str, targets: str) -> "PeftModel":
    """Add low-rank updates to the linear layers that `targets` matches, in place, and freeze the rest; peft's model.

    UsageError where it matches none.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=targets)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, about what peft asks it
            adapter = get_peft_model(model, config)
    except ValueError as error:  # no layer of that name, or none of a kind that peft knows
        raise UsageError(
            f"{base} has no linear layers that an adapter could update ({targets}); leave out lora."
        ) from error
    adapter.peft_config["default"].base_model_name_or_path = base
    return adapter


def save_adapter(adapter: "PeftModel", folder: Path) -> None:
    """Write peft's files; embeddings, which are never trained here, are not looked for in the base or on the hub."""
    adapter.save_pretrained(str(folder), save_embedding_layers=False)


@contextmanager
def without(adapter: "PeftModel") -> Iterator[None]:
    """Let the model compute as its base does inside.

    peft's own `disable_adapter` also says that the updates require no gradient, which those who share weights are not
    told, so what it tells the layers is told here.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in adapter.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
