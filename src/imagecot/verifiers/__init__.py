"""Verifiers: models that answer yes/no questions about images, found by name, folder or hub id."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagecot.checkpoint import CONFIG, read_config
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
from imagecot.errors import ImagecotError, UsageError
from imagecot.hub import VERIFIER, check_name, find

if TYPE_CHECKING:
    import torch

    from imagecot.contracts.verifier import Conversation, Verifier
    from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier

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
_PROBED = 10**9  # weights of a verifier that is asked a question for a try on a CPU, where a larger one takes minutes

_TOGETHER = f"see that {CONFIG} and the tokenizer belong to the weights"


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

    UsageError for a name that is nothing of these, or a device or type that is not there; ImagecotError where the
    checkpoint cannot be had or read, or cannot answer a question.
    """
    from imagecot.adapters import lineage, merge
    from imagecot.precision import as_device, loaded_as, quantize

    device = as_device(device)
    loaded_as(dtype, device)
    base, *adapters = lineage(_find(name_or_path), lambda name: find(name, VERIFIER))
    verifier: Any = _load_base(base, device, dtype)
    for folder in adapters:
        verifier.model = merge(verifier.model, folder)
    if dtype == "int8":
        verifier.model.model = quantize(verifier.model.model)
    _try(verifier, base)
    answering: Verifier = verifier
    return answering


def _load_base(folder: Path, device: "torch.device", dtype: "torch.dtype | str | None") -> "Verifier":
    """Load a verifier whose weights are whole, in the type that `dtype` is made of."""
    from imagecot.foreign import foreign
    from imagecot.precision import loaded_as
    from imagecot.verifiers.any_vlm import AnyVlm, is_vlm, load_processor
    from imagecot.verifiers.llava_next import ReleasedVerifier, is_llava_next
    from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier, check_image

    values = read_config(folder)
    if not (is_llava_next(values) or is_vlm(values)):
        raise UsageError(f"{folder} is not a vision-language checkpoint by its config.json; pass a verifier.")
    model: Any = _load_model(folder, values, loaded_as(dtype, device)).to(device)
    with foreign(f"{folder} is no verifier", _TOGETHER):
        if not is_llava_next(values) and values["model_type"] != "llava_onevision":
            return AnyVlm(model, load_processor(folder))
        tokenizer = _load_tokenizer(folder)
        check_image(model, tokenizer)
        return (ReleasedVerifier if is_llava_next(values) else LlavaOnevisionVerifier)(model, tokenizer)


def _try(verifier: Any, folder: Path) -> None:
    """Ask a question about a grey image; ImagecotError where that fails, which then is the checkpoint's fault.

    What config.json, tokenizer and processor say may go together with the weights and not with each other.
    """
    import torch

    from imagecot.foreign import foreign

    if verifier.device.type == "cpu" and sum(p.numel() for p in verifier.model.parameters()) > _PROBED:
        return
    with foreign(f"{folder} cannot answer a question", _TOGETHER):
        p_yes = verifier.ask(torch.full((1, 3, 64, 64), 0.5), ["a cat"], ORM)
        if not bool(torch.isfinite(p_yes).all()):
            raise ValueError("its answers are no numbers")
    verifier.judge_calls = verifier.tokens_judged = 0
    if hasattr(verifier, "images_encoded"):
        verifier.images_encoded = 0


def _find(name: object) -> Path:
    name = check_name("verifier", name)
    parts = [verifier for verifier in HUB_VERIFIERS if verifier.startswith(f"{name}:")]
    if parts:
        raise UsageError(f"{name} holds more than one model; name one: {', '.join(parts)}.")
    found = find(name, VERIFIER)
    if found is not None:
        return found
    known = shipped_verifiers()
    near = difflib.get_close_matches(name, [*known, *HUB_VERIFIERS], n=1)
    raise UsageError(
        f"there is no verifier {name!r}{f' (did you mean {near[0]}?)' if near else ''}; "
        f"give a folder, a hub id such as {HUB_VERIFIERS[0]}, or a shipped name: {', '.join(known)}."
    )


def _load_model(folder: Path, values: dict[str, Any], dtype: "torch.dtype") -> "torch.nn.Module":
    from transformers import AutoModelForImageTextToText, LlavaOnevisionForConditionalGeneration

    from imagecot.foreign import first, load_model
    from imagecot.verifiers import llava_next

    if llava_next.is_llava_next(values):
        config, state = llava_next.read(folder, values, dtype)
        given = {"config": config, "state_dict": state}
        model, report = load_model(LlavaOnevisionForConditionalGeneration, folder, dtype, **given)
    else:
        model, report = load_model(AutoModelForImageTextToText, folder, dtype)
    # Of the many other families some publish tensors that their model leaves alone.
    ours = isinstance(model, LlavaOnevisionForConditionalGeneration)
    problems = [
        f"{what} {len(report[key])} tensor(s), such as {first(report[key])}"
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


def _load_tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    from imagecot.foreign import NO_LENGTH, foreign, load_tokenizer
    from imagecot.verifiers.llava_next import is_llava_next

    names = {file.name for file in folder.iterdir()}
    if "tokenizer.json" not in names and not names >= {"vocab.json", "merges.txt"}:
        raise ImagecotError(f"{folder} has no tokenizer.json; pass a folder that holds a complete checkpoint.")
    # transformers' choice of a tokenizer reads config.json too, and does not know LLaVA-NeXT's.
    if names >= {"tokenizer.json", "tokenizer_config.json"} and not is_llava_next(read_config(folder)):
        return load_tokenizer(folder)
    with foreign(f"the tokenizer in {folder} cannot be read", "copy it again"):
        if "tokenizer.json" in names:
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        tokenizer: Any = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer.model_max_length = NO_LENGTH
        return tokenizer


def __getattr__(name: str) -> object:
    # Imported on demand: the command line starts without torch.
    if name == "LlavaOnevisionVerifier":
        from imagecot.verifiers import llava_onevision as module
    elif name in ("Conversation", "Verifier"):
        from imagecot.contracts import verifier as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
