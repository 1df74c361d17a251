"""Loading what transformers and peft read: in silence, no code of a checkpoint is run, each failure is one sentence."""

import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from imagecot.checkpoint import AGAIN, CONFIG, few, find_weights, read_config
from imagecot.errors import ImagecotError
from imagecot.memory import is_out_of_memory
from imagecot.naming import printable
from imagecot.weights import check_finite

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


def _is_number(value: Any, above: float, most: float) -> bool:
    return value is None or (type(value) in (int, float) and above < value <= most)


@contextmanager
def foreign(what: str, advice: str = AGAIN) -> Iterator[None]:
    """Keep the libraries silent, and turn whatever they raise inside into an ImagecotError: `what (...); advice`.

    What a library raises for a damaged checkpoint differs from version to version, so nothing is left out but a lack
    of memory, which is no fault of the checkpoint.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
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
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _plain(told: str, error: Exception) -> str:
    """What an exception says, in one printable line; transformers says the field on the second."""
    lines = [line.strip() for line in told.strip().splitlines() if line.strip()] or [type(error).__name__]
    text = printable(" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".")
    return text if len(text) <= 300 else text[:299] + "…"


def check_sizes(folder: Path, values: dict[str, Any]) -> None:
    """Raise ImagecotError, naming the field of `folder/config.json`, for sizes that no model can have.

    Also for fields that have transformers read other files, or code from the hub.
    """
    problems = list(_problems(values, ""))
    if problems:
        raise ImagecotError(f"{folder / CONFIG}: {few(problems)}; {AGAIN}.")


def _problems(values: dict[str, Any], before: str) -> Iterator[str]:
    for name, value in values.items():
        path = f"{before}{name}"
        if isinstance(value, dict):
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


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder as transformers finds it; ImagecotError where it cannot be read."""
    from transformers import AutoTokenizer

    with foreign(f"the tokenizer in {folder} cannot be read", "copy it again"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer.model_max_length = NO_LENGTH
        tokenizer("a photo of a cat")
    return tokenizer


def load_model(kind: Any, folder: Path, dtype: torch.dtype, **given: Any) -> tuple[Any, dict[str, Any]]:
    """Load a model of transformers; return it and transformers' report on the tensors, which do not have to fit.

    kind   one of transformers' classes, or of its `AutoModel...` classes
    given  `config` and `state_dict`, where they are not those of the folder

    ImagecotError where config.json describes no model, or the weights cannot be read or are not finite.
    """
    from transformers import AutoConfig

    files = find_weights(folder)
    odd = [file.name for file in folder.iterdir() if file.exists() and not (file.is_file() or file.is_dir())]
    if odd:
        raise ImagecotError(f"{folder} holds what is no regular file ({few(odd)}); {AGAIN}.")
    check_sizes(folder, read_config(folder))
    safe: Any = {"local_files_only": True, "trust_remote_code": False}
    with foreign(f"{folder / CONFIG} describes no model that transformers can build"):
        config = given.get("config")
        if config is None:
            own = getattr(kind, "config_class", None) or AutoConfig
            config = own.from_pretrained(folder, **safe)
        with torch.device("meta"):
            outline = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    numbers = sum(parameter.numel() for parameter in outline.parameters())
    size = sum(file.stat().st_size for file in files)
    if numbers > _NUMBERS_A_BYTE * size:
        raise ImagecotError(
            f"the weights in {folder} cannot be read (they have {size:,} bytes, but {CONFIG} describes a model of "
            f"{numbers:,} numbers); {AGAIN}."
        )
    options: Any = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with foreign(f"the weights in {folder} cannot be read"):
        if given:
            model, report = kind.from_pretrained(None, **given, **options)
        else:
            model, report = kind.from_pretrained(folder, **safe, **options)
    check_finite({name: tensor for name, tensor in model.state_dict().items() if name not in _absent(report)}, folder)
    return model, report


def _absent(report: dict[str, Any]) -> set[str]:
    """The tensors that were not read from the weights."""
    return {
        name if isinstance(name, str) else name[0]
        for key in ("missing_keys", "mismatched_keys")
        for name in report.get(key, ())
    }


def first(names: Iterable[str | tuple[str, ...]]) -> str:
    """The first tensor of a loading report, whose entries are names or (name, shape, shape)."""
    return few([min(name if isinstance(name, str) else name[0] for name in names)])
