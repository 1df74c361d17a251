"""What alignment leaves: a checkpoint folder of whole weights, or an adapter on the generator that it started from."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from imagecot.contracts.scorer import Scorer
from imagecot.files import write_folder
from imagecot.search_config import copy_search_config
from imagecot.training.card import write_card
from imagecot.training.lora import save_adapter

if TYPE_CHECKING:
    from peft import PeftModel


def write_aligned(
    generator: Scorer, adapter: "PeftModel | None", base: str, folder: Path, how: str, recipe: BaseModel
) -> None:
    """Write a folder that `load_generator` reads, with its card.

    adapter  peft's model where low-rank updates alone were trained; how it draws and is searched with its base says
    """
    if adapter is not None:
        write_folder(folder, partial(save_adapter, adapter))
    else:
        generator.save(folder)
        copy_search_config(base, folder)
    write_card(folder, "generator", base, how, recipe)
