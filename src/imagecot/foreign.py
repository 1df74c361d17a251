"""Loading what transformers and peft read: in silence, no code of a checkpoint is run, each failure is one sentence."""

import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from imagecot.checkpoint import AGAIN, CONFIG, few, find_weights, read_config
from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.memory import is_out_of_memory
from imagecot.naming import printable
from imagecot.weights import check_finite

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

# The sizes that models of transformers go by, at most; whoever has more is no model that runs here.
_SIZES = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth"), 1_000),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "vision_layers"), 1_000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "num_heads", "num_queries"), 10_000),
    **dict.fromkeys(("hidden_size", "embed_dim", "hidden_dim", "d_model", "head_dim", "projection_dim"), 100_000),
    **dict.fromkeys(("feature_size", "mask_feature_size", "patch_size", "image_size"), 100_000),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "dim_feedforward", "encoder_feedforward_dim"), 10_000_000),
    **dict.fromkeys(("vocab_size", "max_position_embeddings"), 100_000_000),
}
NO_LENGTH = 10**30  # of a tokenizer, which otherwise warns of long texts that the model has room for
_NUMBERS_A_BYTE = 8  # of weights: more than any number format packs


def _is_number(value: JSON, above: float, most: float) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value <= most


@contextmanager
def foreign(what: str, advice: str = AGAIN) -> Iterator[None]:
    """Keep the libraries silent, and turn whatever they raise inside into an ImagecotError: `what (...); advice`.

    What a library raises for a damaged checkpoint differs from version to version, so nothing is left out but a lack
    of memory, which is no fault of the checkpoint.
    """
    try:
        with warnings.catch_warnings(), _silent_transformers():
            warnings.simplefilter("ignore")
            yield
    except ImagecotError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        told = str(error)
        if "trust_remote_code" in told:
            told = "it wants code of its own to be run, which is never done"
        raise ImagecotError(f"{what} ({_plain(told, error)}); {advice}.") from error


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Keep transformers silent where it is loaded; it is not loaded for that."""
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _plain(told: str, error: Exception) -> str:
    """What an exception says, in one printable line; transformers says the field on the second."""
    lines = [line.strip() for line in told.strip().splitlines() if line.strip()] or [type(error).__name__]
    text = printable(" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".")
    return text if len(text) <= 300 else text[:299] + "…"


def check_sizes(folder: Path, values: Mapping[str, JSON]) -> None:
    """Raise ImagecotError, naming the field of `folder/config.json`, for sizes that no model can have.

    Also for fields that have transformers read other files, or code from the hub.
    """
    problems = list(_problems(values, ""))
    if problems:
        raise ImagecotError(f"{folder / CONFIG}: {few(problems)}; {AGAIN}.")


def _problems(values: Mapping[str, JSON], before: str) -> Iterator[str]:
    for name, value in values.items():
        path = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _problems(value, f"{path}.")
        elif name in _SIZES and value is not None:
            numbers = value if isinstance(value, list) else [value]
            if not all(type(number) is int and 1 <= number <= _SIZES[name] for number in numbers):
                yield f"{path} must be a whole number from 1 to {_SIZES[name]:,}, not {json.dumps(value)[:60]}"
        elif name.endswith("_eps") and not _is_number(value, 0.0, 0.1):
            yield f"{path} must be a number above 0 and at most 0.1, not {json.dumps(value)[:60]}"
        elif name == "rope_theta" and not _is_number(value, 0.999, 1e12):
            yield f"{path} must be a number from 1 to 1e12, not {json.dumps(value)[:60]}"
        elif name == "transformers_weights" and value is not None:
            yield f"{path} names other weights than those of the folder; leave it out"
        elif name.endswith("attn_implementation") and "/" in str(value):
            yield f"{path} names code at the hub, which is never run; leave it out"


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a folder as transformers finds it; ImagecotError where it cannot be read."""
    from transformers import AutoTokenizer

    with foreign(f"the tokenizer in {folder} cannot be read", "copy it again"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer.model_max_length = NO_LENGTH
        tokenizer("a photo of a cat")
    return tokenizer


@dataclass(frozen=True)
class Report:
    """What of a model and its weights does not fit, by the names of tensors.

    missing     of the model, and not of the weights
    unexpected  of the weights, and not of the model
    mismatched  of both, in different shapes
    """

    missing: frozenset[str]
    unexpected: frozenset[str]
    mismatched: frozenset[str]

    @classmethod
    def of(cls, info: Mapping[str, Collection[str | tuple[str, ...]]]) -> Self:
        """The report as transformers makes it, whose entries are names or (name, shape, shape)."""
        return cls(
            *(
                frozenset(name if isinstance(name, str) else name[0] for name in info[key])
                for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
            )
        )


def load_model(
    kind: "type[PreTrainedModel | _BaseAutoModelClass]",
    folder: Path,
    dtype: torch.dtype,
    *,
    device: torch.device | None = None,
    config: "PreTrainedConfig | None" = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> "tuple[PreTrainedModel, Report]":
    """Load a model of transformers, and say which of its tensors fit, which they do not have to.

    kind                one of transformers' classes, or of its `AutoModel...` classes
    device              where its weights are read to, the CPU if not given
    config, state_dict  of one of its classes, both, where they are not those of the folder

    ImagecotError where config.json describes no model, or the weights cannot be read or are not finite.
    """
    from transformers import PreTrainedModel

    files = find_weights(folder)
    odd = [file.name for file in folder.iterdir() if file.exists() and not (file.is_file() or file.is_dir())]
    if odd:
        raise ImagecotError(f"{folder} holds what is no regular file ({few(odd)}); {AGAIN}.")
    check_sizes(folder, read_config(folder))
    with foreign(f"{folder / CONFIG} describes no model that transformers can build"):
        described = config or _config_of(kind, folder)
        with torch.device("meta"):
            outline = kind(described) if issubclass(kind, PreTrainedModel) else kind.from_config(described)
    numbers = sum(parameter.numel() for parameter in outline.parameters())
    size = sum(file.stat().st_size for file in files)
    if numbers > _NUMBERS_A_BYTE * size:
        raise ImagecotError(
            f"the weights in {folder} cannot be read (they have {size:,} bytes, but {CONFIG} describes a model of "
            f"{numbers:,} numbers); {AGAIN}."
        )
    read: Callable[..., object] = kind.from_pretrained
    with foreign(f"the weights in {folder} cannot be read"):
        loaded = read(
            folder if state_dict is None else None,
            config=config,
            state_dict=state_dict,
            dtype=dtype,
            device_map=None if device is None or device.type == "cpu" else {"": device},
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    assert isinstance(loaded, tuple)
    model, info = loaded
    report = Report.of(info)
    absent = report.missing | report.mismatched  # not read from the weights
    check_finite({name: tensor for name, tensor in model.state_dict().items() if name not in absent}, folder)
    return model, report


def first(names: Iterable[str]) -> str:
    """The first tensor of some that do not fit."""
    return few([min(names)])


def _config_of(kind: "type[PreTrainedModel | _BaseAutoModelClass]", folder: Path) -> "PreTrainedConfig":
    from transformers import AutoConfig, PreTrainedModel

    own = kind.config_class if issubclass(kind, PreTrainedModel) else None
    return (own or AutoConfig).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
