"""Verifiers: models that answer yes/no questions about images, found by name, folder or hub id."""

import difflib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagecot.errors import ImagecotError, UsageError, first_line
from imagecot.generators import CHECKPOINTS, find_checkpoint
from imagecot.verifiers.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question

if TYPE_CHECKING:
    import torch

    from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
    from imagecot.verifiers.protocol import Conversation, Verifier

__all__ = [
    "CLARITY",
    "ORM",
    "POTENTIAL",
    "PRM",
    "REFLECTION",
    "Conversation",
    "LlavaOnevisionVerifier",
    "Question",
    "Verifier",
    "load_verifier",
    "shipped_verifiers",
]

# A hub id may name a folder of its repository behind a colon: the paper's fine-tuned ORM, and its PARM.
HUB_VERIFIERS = (
    "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "lmms-lab/llava-onevision-qwen2-7b-ov",
    "ZiyuG/Image-Generation-CoT:orm_ft",
    "ZiyuG/Image-Generation-CoT:parm",
)
_FILES = ["*.json", "*.jinja", "*.safetensors", "pytorch_model*.bin", "merges.txt", "tokenizer.model"]


def shipped_verifiers() -> list[str]:
    """Return the names of the verifiers that the package contains."""
    from imagecot.models import shipped

    return shipped("verifier")


def load_verifier(
    name_or_path: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | str | None" = None,
) -> "Verifier":
    """Load a verifier: LLaVA-OneVision as transformers or LLaVA-NeXT write it, or another model of transformers.

    name_or_path  a checkpoint folder, a shipped name, a hub id or `hub/id:folder`
    device        the GPU where there is one, else the CPU
    dtype         a type or one of `imagecot.precision.PRECISIONS`; by default bfloat16 on a GPU, float32 on the CPU

    UsageError for a name that is nothing of these; ImagecotError where the checkpoint cannot be had or read.
    """
    import torch

    from imagecot.precision import loaded_as, quantize
    from imagecot.verifiers.any_vlm import AnyVlm, is_vlm, load_processor
    from imagecot.verifiers.llava_next import ReleasedVerifier, is_llava_next
    from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
    from imagecot.weights import read_config

    folder = _find(str(name_or_path))
    if (folder / "adapter_config.json").is_file():
        return _load_adapter(folder, device, dtype)
    values = read_config(folder)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def model() -> "torch.nn.Module":
        loaded: Any = _load_model(folder, values, loaded_as(dtype, device)).to(device)
        if dtype == "int8":
            loaded.model = quantize(loaded.model)
        return loaded

    if is_llava_next(values):
        return ReleasedVerifier(model(), _load_tokenizer(folder))
    if values.get("model_type") == "llava_onevision":
        return LlavaOnevisionVerifier(model(), _load_tokenizer(folder))
    if is_vlm(values):
        return AnyVlm(model(), load_processor(folder))
    raise UsageError(f"{folder} is not a vision-language checkpoint by its config.json; pass a verifier.")


def _load_adapter(folder: Path, device: Any, dtype: "torch.dtype | str | None") -> "Verifier":
    """Load the base that an adapter names, and merge the adapter into it."""
    from peft import PeftModel
    from safetensors import SafetensorError

    from imagecot.precision import quantize

    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        verifier: Any = load_verifier(base, device=device, dtype=None if dtype == "int8" else dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, about what peft asks it
            verifier.model = PeftModel.from_pretrained(verifier.model, str(folder)).merge_and_unload().eval()
        if dtype == "int8":
            verifier.model.model = quantize(verifier.model.model)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ImagecotError(
            f"the adapter in {folder} does not fit its base ({first_line(error)}); copy it again."
        ) from error
    answering: Verifier = verifier
    return answering


def _find(name: str) -> Path:
    known = shipped_verifiers()
    if Path(name).is_dir():
        return Path(name)
    if name in known:
        return CHECKPOINTS / name
    repository, _, part = name.partition(":")
    parts = [verifier for verifier in HUB_VERIFIERS if verifier.startswith(f"{name}:")]
    if parts:
        raise UsageError(f"{name} holds more than one model; name one: {', '.join(parts)}.")
    if repository.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder = find_checkpoint(repository, [f"{part}/{file}" for file in _FILES] if part else _FILES) / part
        if not folder.is_dir():
            raise ImagecotError(f"{repository} has no folder {part}; look at its list of files.")
        return folder
    near = difflib.get_close_matches(name, [*known, *HUB_VERIFIERS], n=1)
    raise UsageError(
        f"there is no verifier {name!r}{f' (did you mean {near[0]}?)' if near else ''}; "
        f"give a folder, a hub id such as {HUB_VERIFIERS[0]}, or a shipped name: {', '.join(known)}."
    )


def _load_model(folder: Path, values: dict[str, Any], dtype: "torch.dtype") -> "torch.nn.Module":
    from transformers import AutoModelForImageTextToText, LlavaOnevisionForConditionalGeneration

    from imagecot.verifiers import llava_next
    from imagecot.weights import find_weights, reading_weights

    find_weights(folder)
    options: Any = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with reading_weights(folder):
        if llava_next.is_llava_next(values):
            config, state = llava_next.read(folder, values, dtype)
            load: Any = LlavaOnevisionForConditionalGeneration.from_pretrained
            model, report = load(None, config=config, state_dict=state, **options)
        else:
            load = AutoModelForImageTextToText.from_pretrained
            model, report = load(folder, local_files_only=True, **options)
    # Of the many other families some publish tensors that their model leaves alone.
    ours = isinstance(model, LlavaOnevisionForConditionalGeneration)
    problems = [
        f"{what} {len(report[key])} tensor(s), such as {_first(report[key])}"
        for what, key in (
            ("lack", "missing_keys"),
            ("have unknown", "unexpected_keys"),
            ("misfit", "mismatched_keys"),
        )
        if report.get(key) and (ours or key != "unexpected_keys")
    ]
    if problems:
        raise ImagecotError(f"the weights in {folder} do not fit its config.json: they {'; they '.join(problems)}.")
    return model


def _first(names: Iterable[str | tuple[str, ...]]) -> str:
    """The first tensor of a loading report, whose entries are names or (name, shape, shape)."""
    return min(name if isinstance(name, str) else name[0] for name in names)


def _load_tokenizer(folder: Path) -> object:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

    from imagecot.verifiers.llava_next import is_llava_next
    from imagecot.weights import read_config

    names = {file.name for file in folder.iterdir()}
    if "tokenizer.json" not in names and not names >= {"vocab.json", "merges.txt"}:
        raise ImagecotError(f"{folder} has no tokenizer.json; pass a folder that holds a complete checkpoint.")
    try:
        if "tokenizer.json" not in names:
            return Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
        # AutoTokenizer reads config.json too, and does not know LLaVA-NeXT's.
        if "tokenizer_config.json" in names and not is_llava_next(read_config(folder)):
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise ImagecotError(f"the tokenizer in {folder} cannot be read ({error}); copy it again.") from error


def __getattr__(name: str) -> object:
    # Imported on demand: the command line starts without torch.
    if name == "LlavaOnevisionVerifier":
        from imagecot.verifiers import llava_onevision as module
    elif name in ("Conversation", "Verifier"):
        from imagecot.verifiers import protocol as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
