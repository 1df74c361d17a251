"""LLaVA-OneVision checkpoints as LLaVA-NeXT writes them: the paper's ORM and PARM, and the model they start from.

Names of tensors and fields of config.json are translated to those of transformers. The released code asks each
of these checkpoints in the same words (`RELEASED`), and shows it one view of the image ('pad', whatever
`image_aspect_ratio` says).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.foreign import check_sizes, foreign
from imagecot.verifiers.chat import RELEASED_CLARITY, RELEASED_POTENTIAL
from imagecot.weights import load_state_dict

if TYPE_CHECKING:
    from transformers import LlavaOnevisionConfig

# `mm_vision_tower`: the sizes, which config.json does not repeat. LLaVA-NeXT deletes the last of 27 layers.
TOWERS: dict[str, dict[str, int]] = {
    "google/siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    }
}
_PREFIXES = {
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "model.embed_tokens.": "model.language_model.embed_tokens.",
    "model.layers.": "model.language_model.layers.",
    "model.norm.": "model.language_model.norm.",
}
_TEXT = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling"),
    *("tie_word_embeddings", "use_sliding_window", "sliding_window", "max_window_layers"),
)
_TABLES = ("model.language_model.embed_tokens.weight", "lm_head.weight")
_MOST_BEYOND = 10_000  # rows by which the image's id may lie behind the vocabulary, whose tensors are padded to it
# What the released code asks, which PARM was fine-tuned on.
RELEASED = {question.name: question.template for question in (RELEASED_CLARITY, RELEASED_POTENTIAL)}


def is_llava_next(config: Mapping[str, JSON]) -> bool:
    """Whether this config.json is LLaVA-NeXT's; its model_type may be llava_qwen, llava or another."""
    return "mm_vision_tower" in config


def read(
    folder: Path, values: Mapping[str, JSON], dtype: torch.dtype
) -> "tuple[LlavaOnevisionConfig, dict[str, Tensor]]":
    """Return the configuration and the tensors of a checkpoint folder in the form of transformers.

    values  its config.json
    dtype   of the tensors

    ImagecotError where a file cannot be read, or the model is another than LLaVA-OneVision.
    """
    check_sizes(folder, dict(values))
    config = translate(values, folder)
    loaded = load_state_dict(folder, dtype=dtype)
    state = {new: loaded[old] for new, old in module_names(loaded, folder).items()}
    _fit_vocabulary(config, state)
    return config, state


def translate(values: Mapping[str, JSON], source: str | Path) -> "LlavaOnevisionConfig":
    """Return transformers' configuration for a config.json of LLaVA-NeXT; `source` is named in errors."""
    from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

    tower = str(values.get("mm_vision_tower"))
    for field, fits, needed in (
        ("mm_vision_tower", tower in TOWERS, " or ".join(TOWERS)),
        ("mm_projector_type", values.get("mm_projector_type") == "mlp2x_gelu", "mlp2x_gelu"),
        # With "unpad" the newline row ends a single view; without, there is none.
        ("mm_patch_merge_type", "unpad" in str(values.get("mm_patch_merge_type")), "spatial_unpad"),
    ):
        if not fits:
            raise ImagecotError(
                f"{source} is no LLaVA-OneVision: its config.json has {field} {values.get(field)!r} instead of "
                f"{needed}; pass a checkpoint like lmms-lab/llava-onevision-qwen2-7b-ov."
            )
    with foreign(f"{source} is no LLaVA-OneVision by its config.json"):
        text = Qwen2Config.from_dict({name: values[name] for name in _TEXT if name in values})
    # The reference marks the image by -200; here it needs an id that no text has, by default a new one.
    image = values.get("image_token_index", text.vocab_size)
    if type(image) is not int or not 0 <= image <= text.vocab_size + _MOST_BEYOND:
        raise ImagecotError(f"{source} has image_token_index {str(image)[:60]!r} in its config.json, which is no id.")
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig.from_dict({"vision_use_head": False, **TOWERS[tower]}),
        text_config=text,
        image_token_index=image,
        video_token_index=image + 1,
    )


def module_names(names: Iterable[str], source: str | Path) -> dict[str, str]:
    """Return names of LLaVA-NeXT by the names of transformers' modules; a name that is the same in both is kept.

    ImagecotError, naming `source`, where two names mean the same tensor.
    """
    found: dict[str, str] = {}
    for name in names:
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
        module = _PREFIXES.get(prefix, "") + name.removeprefix(prefix)
        if module in found:
            raise ImagecotError(f"{source} holds one tensor twice, as {found[module]} and as {name}; remove one.")
        found[module] = name
    return found


def _fit_vocabulary(config: "LlavaOnevisionConfig", state: dict[str, Tensor]) -> None:
    """Let the vocabulary have the rows of the tensors, and one for the image's id.

    7B checkpoints have 152064 rows (152128 when converted by transformers) for a tokenizer of 151646 entries, and
    a copy may be cut to the entries. Only the rows of yes and no are ever read of the head, so the number matters
    to nothing; the row of the image's id is overwritten by the image.
    """
    image = config.image_token_index
    for name in _TABLES:
        if name in state and len(state[name]) <= image:
            state[name] = F.pad(state[name], (0, 0, 0, image + 1 - len(state[name])))
    if _TABLES[0] in state:
        config.get_text_config().vocab_size = len(state[_TABLES[0]])
