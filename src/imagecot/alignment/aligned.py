"""What alignment trains and leaves: whole weights in half precision, or an adapter on the generator it started from."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from imagecot.files import write_folder, write_whole
from imagecot.generators import DECODING
from imagecot.generators.showo import ShowoGenerator
from imagecot.models import known_words
from imagecot.naming import inside
from imagecot.reward_models.finetune import Lora, add_adapter, save_adapter
from imagecot.training.card import write_card
from imagecot.weights import save_checkpoint

_LAYERS = "q_proj|k_proj|v_proj|dense|fc1|fc2"


def add_lora(model: nn.Module, lora: Lora, base: str) -> Any:
    """Add low-rank updates to the linear layers of Show-o's trunk, in place, and freeze the rest; peft's model."""
    return add_adapter(model, lora, base, rf".*\.layers\..*\.({_LAYERS})")


def write_aligned(
    generator: ShowoGenerator, adapter: Any, base: str, folder: Path, how: str, recipe: BaseModel
) -> None:
    """Write a checkpoint folder that `load_generator` reads, with its card; its decoding defaults come last."""
    if adapter is not None:
        write_folder(folder, partial(save_adapter, adapter))
    else:
        _write_whole_model(generator, base, folder)
    write_card(folder, "generator", base, how, recipe)
    decoding = {name: getattr(generator, name) for name in DECODING}
    write_whole(folder / "generation_config.json", (json.dumps(decoding, indent=2) + "\n").encode())


def _write_whole_model(generator: ShowoGenerator, base: str, folder: Path) -> None:
    from imagecot.generators import find_checkpoint

    config = generator.model.config
    words = known_words(base)
    values = config.to_dict() | ({"known_words": sorted(words)} if words else {})
    write_folder(folder, generator.prompting.save_pretrained)
    own = inside(find_checkpoint(base, []), config.vq_model)
    if own is not None and (own / "config.json").is_file():
        generator.image_tokenizer.save_pretrained(folder / config.vq_model)
    save_checkpoint(folder, values, copy.deepcopy(generator.model).half().state_dict())
