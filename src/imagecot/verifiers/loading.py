"""Loading verifiers: model, adapters, tokenizer or processor, and the checkpoint's wording and advice."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from imagecot.adapters import merge
from imagecot.checkpoint import CONFIG, read_config
from imagecot.contracts.questions import ORM
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.families import Checkpoint
from imagecot.foreign import NO_LENGTH, first, foreign, load_model
from imagecot.foreign import load_tokenizer as load_any_tokenizer
from imagecot.plain_tokenizer import PlainTokenizer, read_plain
from imagecot.precision import Device, Dtype, as_device, loaded_as, quantize
from imagecot.search_config import defaults_of
from imagecot.verifiers import lean, llava_next
from imagecot.verifiers.any_vlm import AnyVlm, VisionLanguageModel, is_vlm, load_processor
from imagecot.verifiers.chat_verifier import ChatVerifier
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier, check_image
from imagecot.verifiers.wording import Habits, worded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from imagecot.verifiers.janus import JanusVerifier
    from imagecot.verifiers.showo import ShowoVerifier

_INT8 = "int8"
_PROBED = 10**9  # weights of a verifier that is asked a question for a try on a CPU, where a larger one takes minutes
_TOGETHER = f"see that {CONFIG} and the tokenizer belong to the weights"

Read = Callable[[Path, Mapping[str, JSON], torch.dtype, torch.device], nn.Module | None]
Made = TypeVar("Made", LlavaOnevisionVerifier, "JanusVerifier", AnyVlm)


def load_llava(checkpoint: Checkpoint, device: Device, dtype: Dtype) -> LlavaOnevisionVerifier:
    """Load a LLaVA-OneVision as transformers or LLaVA-NeXT write it; adapters are merged. `trained` can be trained.

    UsageError for a device or type that is not there; ImagecotError where the checkpoint cannot be had or read, or
    cannot answer a question.
    """

    def build(model: nn.Module, folder: Path, habits: Habits) -> LlavaOnevisionVerifier:
        tokenizer = (read_plain(folder) if isinstance(model, lean.Lean) else None) or _load_tokenizer(folder)
        if not isinstance(model, lean.Lean):
            from transformers import LlavaOnevisionForConditionalGeneration

            assert isinstance(model, LlavaOnevisionForConditionalGeneration)  # as the family of the checkpoint says
        check_image(model, tokenizer)
        return LlavaOnevisionVerifier(model, tokenizer, habits)

    return _load(checkpoint, device, dtype, build, lean.read)


def trained(verifier: ChatVerifier) -> ChatVerifier:
    """The same verifier around a model of transformers, which can be trained and saved."""
    from imagecot.generators.janus.lean import LeanJanus

    if isinstance(verifier.model, LeanJanus):
        from imagecot.verifiers import janus

        return janus.trained(verifier, verifier.model)
    if not isinstance(verifier.model, lean.Lean):
        return verifier
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    model = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig.from_dict(dict(verifier.model.values)))
    model.load_state_dict(verifier.model.state_dict())
    nn.Module.to(model, verifier.device, verifier.model.dtype)
    read = verifier.tokenizer
    tokenizer = _load_tokenizer(read.folder) if isinstance(read, PlainTokenizer) else read
    return LlavaOnevisionVerifier(model, tokenizer, verifier.habits)


def load_janus(checkpoint: Checkpoint, device: Device, dtype: Dtype) -> "JanusVerifier":
    """Load a Janus as a verifier; as `load_llava`."""
    from imagecot.generators.janus.lean import LeanJanus, read
    from imagecot.verifiers import janus

    def build(model: nn.Module, folder: Path, habits: Habits) -> "JanusVerifier":
        if not isinstance(model, LeanJanus):
            from transformers import JanusForConditionalGeneration

            assert isinstance(model, JanusForConditionalGeneration)  # as the family of the checkpoint says
        return janus.JanusVerifier(model, janus.load_processor(folder, model), habits)

    return _load(checkpoint, device, dtype, build, read)


def janus_around(generator: object, checkpoint: Checkpoint) -> "JanusVerifier | None":
    """The verifier that a Janus that draws is too, around the same weights; None in int8.

    There the two roles quantize different layers, and each answers by its own. Errors as of `load_llava`.
    """
    from imagecot.generators.janus.generator import JanusGenerator
    from imagecot.verifiers import janus

    assert isinstance(generator, JanusGenerator)  # as the families of one checkpoint say
    if generator.precision == _INT8:
        return None
    base, habits = checkpoint.parts[0], _habits(checkpoint, generator.precision)
    with foreign(f"{base} is no verifier", _TOGETHER):
        verifier = janus.JanusVerifier(generator.model, janus.load_processor(base, generator.model), habits)
    _try(verifier, base)
    return verifier


def load_showo(checkpoint: Checkpoint, device: Device, dtype: Dtype) -> "ShowoVerifier":
    """Load a Show-o as a verifier; as `load_llava`, UsageError too for one that does not answer about image codes."""
    from imagecot.generators.showo import loading

    return showo_around(loading.load(checkpoint, device, dtype), checkpoint)


def showo_around(generator: object, checkpoint: Checkpoint) -> "ShowoVerifier":
    """The verifier that a Show-o is, around the weights of the generator; errors as of `load_showo`."""
    from imagecot.generators.showo.generator import ShowoGenerator
    from imagecot.verifiers import showo

    assert isinstance(generator, ShowoGenerator)  # as the families of one checkpoint say
    base, habits = checkpoint.parts[0], _habits(checkpoint, generator.precision)
    try:
        verifier = showo.ShowoVerifier(showo.Parts.of(generator), habits)
    except UsageError as error:
        raise UsageError(f"{checkpoint.name} cannot judge: {error}") from None
    _try(verifier, base)
    return verifier


def load_any_vlm(checkpoint: Checkpoint, device: Device, dtype: Dtype) -> AnyVlm:
    """Load another image-text-to-text model of transformers; as `load_llava`, UsageError too where it is none."""
    folder = checkpoint.parts[0]
    if not is_vlm(read_config(folder)):
        raise UsageError(f"{folder} is not a vision-language checkpoint by its config.json; pass a verifier.")
    processor = load_processor(folder)  # before the weights, which take long

    def build(model: nn.Module, folder: Path, habits: Habits) -> AnyVlm:
        if not isinstance(model, VisionLanguageModel):
            raise ImagecotError(f"{folder} holds a model that writes no answers; pass another verifier.")
        return AnyVlm(model, processor, habits)

    return _load(checkpoint, device, dtype, build)


def _load(
    checkpoint: Checkpoint,
    device: Device,
    dtype: Dtype,
    build: Callable[[nn.Module, Path, Habits], Made],
    own: Read | None = None,
) -> Made:
    """Load the model, merge the adapters, build a verifier around it, and see that it answers.

    own  reads what need not be a model of transformers
    """
    device = as_device(device)
    number_format = loaded_as(dtype, device)
    base, *adapters = checkpoint.parts
    values = read_config(base)
    precision = _INT8 if dtype == _INT8 else str(number_format).removeprefix("torch.")
    habits = _habits(checkpoint, precision, llava_next.RELEASED if llava_next.is_llava_next(values) else {})
    read = own(base, values, number_format, device) if own is not None else None
    model: nn.Module = nn.Module.to(read or _load_model(base, values, number_format, device), device)
    for folder in adapters:
        model = merge(model, folder)
    if dtype == _INT8:
        model.model = quantize(model.get_submodule("model"))
    with foreign(f"{base} is no verifier", _TOGETHER):
        verifier = build(model, base, habits)
    _try(verifier, base)
    return verifier


def _habits(checkpoint: Checkpoint, precision: str, released: Mapping[str, str] | None = None) -> Habits:
    """What a checkpoint says beside its weights, and before that what all of its family were trained on."""
    said = defaults_of(list(checkpoint.parts))
    return Habits(precision, worded({**(released or {}), **said.questions}), said.searches)


def _try(verifier: "ChatVerifier | AnyVlm | ShowoVerifier", folder: Path) -> None:
    """Ask a question about a grey image; ImagecotError where that fails, which then is the checkpoint's fault.

    What config.json, tokenizer and processor say may go together with the weights and not with each other.
    """
    if verifier.device.type == "cpu" and sum(p.numel() for p in verifier.model.parameters()) > _PROBED:
        return
    with foreign(f"{folder} cannot answer a question", _TOGETHER):
        p_yes = verifier.ask(torch.full((1, 3, 64, 64), 0.5), ["a cat"], ORM)
        if not bool(torch.isfinite(p_yes).all()):
            raise ValueError("its answers are no numbers")
    verifier.usage = Usage()


def _load_model(folder: Path, values: Mapping[str, JSON], dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The model of a folder whose tensors fit; `values` are its config.json."""
    from transformers import (
        AutoModelForImageTextToText,
        JanusForConditionalGeneration,
        LlavaOnevisionForConditionalGeneration,
    )

    if llava_next.is_llava_next(values):
        config, state = llava_next.read(folder, values, dtype)
        model, report = load_model(
            LlavaOnevisionForConditionalGeneration, folder, dtype, config=config, state_dict=state
        )
    else:
        model, report = load_model(AutoModelForImageTextToText, folder, dtype, device=device)
    # Of the many other families some publish tensors that their model leaves alone.
    ours = isinstance(model, LlavaOnevisionForConditionalGeneration | JanusForConditionalGeneration)
    problems = [
        f"{what} {len(names)} tensor(s), such as {first(names)}"
        for what, names in (
            ("lack", report.missing),
            ("have unknown", report.unexpected if ours else ()),
            ("misfit", report.mismatched),
        )
        if names
    ]
    if problems:
        raise ImagecotError(f"the weights in {folder} do not fit its config.json: they {'; they '.join(problems)}.")
    return model


def _load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder; ImagecotError where it cannot be read."""
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    names = {file.name for file in folder.iterdir()}
    if "tokenizer.json" not in names and not names >= {"vocab.json", "merges.txt"}:
        raise ImagecotError(f"{folder} has no tokenizer.json; pass a folder that holds a complete checkpoint.")
    # transformers' choice of a tokenizer reads config.json too, and does not know LLaVA-NeXT's.
    if names >= {"tokenizer.json", "tokenizer_config.json"} and not llava_next.is_llava_next(read_config(folder)):
        return load_any_tokenizer(folder)
    with foreign(f"the tokenizer in {folder} cannot be read", "copy it again"):
        if "tokenizer.json" in names:
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer.model_max_length = NO_LENGTH
        return tokenizer
