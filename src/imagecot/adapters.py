"""Adapters: low-rank updates (LoRA) in peft's form, merged into the model that they belong to.

An adapter names its base, which may be an adapter too. What it holds must be just what peft makes for that base:
peft itself leaves out in silence what it cannot place.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field, field_validator

from imagecot.checkpoint import ADAPTER, AGAIN, is_file
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.hub import related
from imagecot.reading import Foreign, read_object, read_record

if TYPE_CHECKING:
    from torch import Tensor, nn

_DEEPEST = 16  # adapters on adapters
_LONGEST, _REPEATS = 2_000, 6  # of a pattern: characters, and what may repeat without end
_REPEATED_GROUP = re.compile(r"\)[*+{]")

Rank = Annotated[int, Field(ge=1, le=4_096)]
Alpha = Annotated[float, Field(gt=0, le=1e6)]
Model = TypeVar("Model", bound="nn.Module")
Patterns = TypeVar("Patterns", bound=str | list[str] | dict[str, int] | dict[str, float])
# What has a say in the weights and is not done here: allowed only where it is switched off.
_UNSUPPORTED = frozenset(
    (
        *("use_dora", "modules_to_save", "bias", "lora_bias", "layers_to_transform", "layers_pattern"),
        *("exclude_modules", "layer_replication", "trainable_token_indices", "target_parameters", "use_qalora"),
        *("use_bdlora", "alora_invocation_tokens", "arrow_config", "corda_config", "eva_config", "kasa_config"),
        *("velora_config", "monteclora_config", "lora_ga_config", "megatron_config", "loftq_config"),
    )
)


class AdapterConfig(Foreign):
    """What `adapter_config.json` says of an adapter."""

    peft_type: Literal["LORA"]
    base_model_name_or_path: Annotated[str, Field(min_length=1)]
    r: Rank
    lora_alpha: Alpha
    target_modules: (
        Annotated[str, Field(min_length=1, max_length=_LONGEST)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=_LONGEST)]], Field(min_length=1, max_length=1_000)
        ]
    )
    use_rslora: bool = False
    fan_in_fan_out: Literal[False] = False
    init_lora_weights: bool | Literal["gaussian"] = True  # other ways to begin change the base too
    rank_pattern: dict[str, Rank] = Field(default_factory=dict)
    alpha_pattern: dict[str, Alpha] = Field(default_factory=dict)
    revision: Literal["main"] | None = None

    @field_validator("target_modules", "rank_pattern", "alpha_pattern")
    @classmethod
    def _quick(cls, value: Patterns) -> Patterns:
        """Refuse patterns that are none, and those that could take for ever on a name."""
        for pattern in [value] if isinstance(value, str) else list(value):
            repeats = sum(pattern.count(mark) for mark in "*+{")
            if _REPEATED_GROUP.search(pattern) or repeats > _REPEATS or len(pattern) > _LONGEST:
                raise ValueError(f"a pattern of names repeats no group, and at most {_REPEATS} times without end")
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"is no pattern of names ({error})") from None
        return value


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return is_file(folder / ADAPTER)


def read_adapter(folder: Path) -> AdapterConfig:
    """Read `folder/adapter_config.json`; ImagecotError, naming the field, for what is not supported."""
    file = folder / ADAPTER
    values = read_object(file, advice=AGAIN)
    kind = values.get("peft_type")
    if isinstance(kind, str) and kind != "LORA":
        raise ImagecotError(f"{file}: adapters of the type {kind[:40]!r} are not supported; use LoRA.")
    found = sorted(name for name in _UNSUPPORTED & values.keys() if not _is_switched_off(values[name]))
    if found:
        shown = json.dumps(values[found[0]])[:60]
        raise ImagecotError(
            f"{file}: {found[0]} {shown} is not supported; merge the adapter into its base with peft first."
        )
    return read_record(file, AdapterConfig, advice=AGAIN)


def _is_switched_off(value: JSON) -> bool:
    return value is None or value is False or value in ("none", [], {})


def lineage(folder: Path, look: Callable[[str], Path | None]) -> list[Path]:
    """Return the folders that make a model: its base, the adapters on it in order, and last `folder` itself.

    look  finds the folder of a model by its name, as `hub.locate` does

    ImagecotError where a base cannot be found, or the adapters go round in a circle.
    """
    found = [folder]
    while is_adapter(found[0]):
        name = read_adapter(found[0]).base_model_name_or_path
        base = related(found[0], name, look)
        if base is None:
            raise ImagecotError(f"{found[0] / ADAPTER}: there is no base model {name[:200]!r}; pass its folder or id.")
        if len(found) > _DEEPEST or any(base.resolve() == other.resolve() for other in found):
            raise ImagecotError(
                f"{found[0] / ADAPTER}: the base model {name[:200]!r} is an adapter that leads back here; name the "
                "model that the adapter was trained on."
            )
        found.insert(0, base)
    return found


def merge(model: Model, folder: Path) -> Model:
    """Merge the adapter in `folder` into its base, whose layers are changed in place, and return the model.

    ImagecotError, naming the tensors, where the adapter is damaged or is not just what peft makes for this base.
    """
    from imagecot.weights import load_state_dict

    config = read_adapter(folder)
    state = load_state_dict(folder)
    ranks = {tensor.shape[0] for name, tensor in state.items() if ".lora_A." in name and tensor.ndim}
    if ranks and not ranks & {config.r, *config.rank_pattern.values()}:
        raise ImagecotError(
            f"{folder / ADAPTER}: r is {config.r}, but the adapter's tensors have rank {min(ranks)}; {AGAIN}."
        )
    updates = _plain_updates(model, config, state)
    if updates is None:
        _merge_by_peft(model, folder, config, state)
    for weight, up, down in updates or ():
        scaling = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
        weight.data += up.to(weight.device).float() @ down.to(weight.device).float() * scaling
    return model.eval()


def _plain_updates(
    model: "nn.Module", config: AdapterConfig, state: "Mapping[str, Tensor]"
) -> "list[tuple[Tensor, Tensor, Tensor]] | None":
    """Weights (M, N) of linear layers, with the factors (M, r) and (r, N) of their updates, as peft would merge them.

    None where the adapter has anything else, or is not just of this base: what peft makes of it is for peft to say,
    and peft takes long to import.
    """
    import torch

    if config.rank_pattern or config.alpha_pattern or config.target_modules == "all-linear":
        return None
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for name, module in model.named_modules():
        if not _is_target(config.target_modules, name):
            continue
        factors = [state.get(f"base_model.model.{name}.lora_{part}.weight") for part in "BA"]
        up, down = factors
        if type(module) is not torch.nn.Linear or up is None or down is None:
            return None
        weight = module.weight
        fits = up.shape == (len(weight), config.r) and down.shape == (config.r, weight.shape[1])
        kinds = (torch.float32, torch.bfloat16, torch.float16)
        if not fits or any(one.dtype not in kinds for one in (weight, up, down)):
            return None
        found.append((weight, up, down))
    return found if found and 2 * len(found) == len(state) else None


def _is_target(targets: str | list[str], name: str) -> bool:
    """Whether an adapter updates the module of a name, as peft reads it."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return name in targets or any(name.endswith(f".{target}") for target in targets)


def _merge_by_peft(model: "nn.Module", folder: Path, config: AdapterConfig, state: "dict[str, Tensor]") -> None:
    """Merge an adapter in place, or say what of it does not fit; as `merge`."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    from imagecot.foreign import foreign
    from imagecot.weights import misfits

    asked = LoraConfig.from_peft_type(
        r=config.r,
        lora_alpha=config.lora_alpha,
        target_modules=config.target_modules,
        use_rslora=config.use_rslora,
        rank_pattern=config.rank_pattern,
        alpha_pattern=config.alpha_pattern,
        inference_mode=True,
    )
    with foreign(f"the adapter in {folder} does not fit its base"):
        adapted = get_peft_model(model, asked)
        problems = misfits(get_peft_model_state_dict(adapted, save_embedding_layers=False), state)
        if problems:
            raise ImagecotError(f"the adapter in {folder} does not fit its base: it {problems}; {AGAIN}.")
        set_peft_model_state_dict(adapted, state)
        adapted.merge_and_unload()
