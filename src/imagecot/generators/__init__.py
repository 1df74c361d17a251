"""Generators: models that draw an image from a prompt in steps, found by name, folder or hub id."""

import dataclasses
import difflib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagecot.errors import ImagecotError, UsageError, first_line

if TYPE_CHECKING:
    import torch

    from imagecot.generators.showo.decoding import ShowoGenerator

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
ADAPTER = "adapter_config.json"  # of peft: the folder holds an adapter, and names its base model
HUB_GENERATORS = ("showlab/show-o", "showlab/show-o-512x512")
DECODING = ("steps", "guidance_scale", "temperature")
"""What of decoding a checkpoint brings along, in its generation_config.json."""
_WEIGHTS = ["config.json", "generation_config.json", "*.safetensors", "*.bin", "*.index.json"]
_TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]


def shipped_generators() -> list[str]:
    """Return the names of the generators that the package contains."""
    from imagecot.models import shipped

    return shipped("generator")


def load_generator(
    name_or_path: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | str | None" = None,
) -> "ShowoGenerator":
    """Load a generator with its image tokenizer and prompts.

    name_or_path  a checkpoint folder, a shipped name or a hub id
    device        the GPU where there is one, else the CPU
    dtype         of the transformer, as a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a
                  GPU, float32 on the CPU; the image tokenizer stays float32

    UsageError for a name that is nothing of these; ImagecotError where the checkpoint cannot be had or read.
    """
    import torch

    from imagecot.generators.showo import MagvitV2, Prompting, Showo, ShowoGenerator
    from imagecot.precision import loaded_as, quantize
    from imagecot.weights import read_config

    folder = find_checkpoint(str(name_or_path), _WEIGHTS + _TOKENIZER)
    if (folder / ADAPTER).is_file():
        return _load_adapter(folder, device, dtype)
    values = read_config(folder)
    if "codebook_size" not in values or "llm_vocab_size" not in values:
        raise UsageError(f"{name_or_path} is not a Show-o checkpoint by its config.json; pass a generator.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    model = Showo.from_pretrained(folder, device=device, dtype=loaded_as(dtype, device))
    if dtype == "int8":
        model.showo.model.layers = quantize(model.showo.model.layers)
    vq_folder = folder / model.config.vq_model
    if not (vq_folder / "config.json").is_file():
        vq_folder = find_checkpoint(model.config.vq_model, _WEIGHTS)
    image_tokenizer = MagvitV2.from_pretrained(vq_folder, device=device, dtype=torch.float32)
    if image_tokenizer.config.codebook_size != model.config.codebook_size:
        raise ImagecotError(
            f"{vq_folder} has {image_tokenizer.config.codebook_size} codes but {folder} draws with "
            f"{model.config.codebook_size}; set vq_model in its config.json to the one it was trained with."
        )
    text_folder = folder if (folder / "tokenizer.json").is_file() else None
    text_folder = text_folder or find_checkpoint(model.config.llm_model_path, _TOKENIZER)
    prompting = Prompting.from_pretrained(text_folder, model.config)
    precision = dtype if isinstance(dtype, str) else str(model.dtype).removeprefix("torch.")
    return ShowoGenerator(model, image_tokenizer, prompting, precision=precision, **_generation_config(folder))


def find_checkpoint(name: str, patterns: list[str]) -> Path:
    """Return the folder of a checkpoint: `name` itself, a shipped one, or a hub id, fetched where needed.

    patterns  the files wanted of a hub repository

    UsageError where `name` is none of these, ImagecotError where the hub cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    if any((CHECKPOINTS / name / file).is_file() for file in ("config.json", ADAPTER)):
        return CHECKPOINTS / name
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name, patterns)
    known = shipped_generators()
    near = difflib.get_close_matches(name, [*known, *HUB_GENERATORS], n=1)
    raise UsageError(
        f"there is no generator {name!r}{f' (did you mean {near[0]}?)' if near else ''}; "
        f"give a folder, a hub id such as {HUB_GENERATORS[0]}, or a shipped name: {', '.join(known)}."
    )


def _download(repository: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise ImagecotError(
            f"{repository} is neither a folder here nor in the Hugging Face cache, and cannot be downloaded; "
            "fetch it on a machine with access or pass the folder of a copy."
        ) from error


def _load_adapter(
    folder: Path, device: "str | torch.device | None", dtype: "torch.dtype | str | None"
) -> "ShowoGenerator":
    """Load the base that an adapter names, and merge the adapter into it."""
    from peft import PeftModel
    from safetensors import SafetensorError

    from imagecot.precision import quantize

    try:
        base = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
        generator = load_generator(base, device=device, dtype=None if dtype == "int8" else dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, about what peft asks it
            adapted: Any = PeftModel.from_pretrained(generator.model, str(folder))
        generator.model = adapted.merge_and_unload().eval()
        if dtype == "int8":
            layers = generator.model.showo.model
            layers.layers, generator.precision = quantize(layers.layers), "int8"
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ImagecotError(
            f"the adapter in {folder} does not fit its base ({first_line(error)}); copy it again."
        ) from error
    return dataclasses.replace(generator, **_generation_config(folder))


def _generation_config(folder: Path) -> dict[str, Any]:
    """Read the decoding defaults that a checkpoint brings, those of DECODING."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ImagecotError(f"{file} is not valid JSON ({error}); copy or download it again.") from error
    return {name: values[name] for name in DECODING if name in values}
