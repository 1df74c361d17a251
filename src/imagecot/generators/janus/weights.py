"""The weights of a Janus: number formats, what alignment trains of them, and the files of a checkpoint."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from imagecot.checkpoint import is_file, read_config
from imagecot.contracts.values import JSON
from imagecot.files import write_folder, write_whole
from imagecot.generators.janus.lean import AnyJanus, LeanJanus
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.settings import write_defaults
from imagecot.weights import save_checkpoint

_CLASS = "JanusForConditionalGeneration"
# The linear layers of the language model.
ADAPTED_LAYERS = r".*language_model\.layers\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
# What a processor is read from, beside the tokenizer's own files.
_PROCESSOR = ("processor_config.json", "preprocessor_config.json")


def cast(model: AnyJanus, dtype: torch.dtype) -> AnyJanus:
    """Turn the weights into another number format, in place; those of the image tokenizer are float32 always.

    Buffers stay: rotary frequencies in half precision would turn late codes to wrong angles.
    """
    tokenizer = {id(parameter) for parameter in model.model.vqmodel.parameters()}
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.float32 if id(parameter) in tokenizer else dtype)
    return model


def copied(model: AnyJanus, dtype: torch.dtype) -> AnyJanus:
    """A copy of the model in another number format."""
    copied = cast(copy.deepcopy(model), dtype)
    copied.eval()
    return copied


def trainable(model: AnyJanus) -> nn.Module:
    """The model, of which what draws requires gradients: language model, embeddings of codes, their head."""
    model.requires_grad_(False)
    inner = model.model
    for part in (inner.language_model, inner.generation_embeddings, inner.generation_aligner, inner.generation_head):
        part.requires_grad_(True)
    return model


def save(
    model: AnyJanus,
    prompting: JanusPrompting,
    decoding: Mapping[str, JSON],
    folder: Path,
    source: Path | None,
) -> None:
    """Write a checkpoint folder: whole weights in half precision, tokenizer, processor, decoding defaults.

    source  the folder whose processor and known words come along; None for none
    """
    write_folder(folder, prompting.save_pretrained)
    values = dict(model.values) if isinstance(model, LeanJanus) else model.config.to_dict()
    values |= {"architectures": [_CLASS], "dtype": "float16"}
    if source is not None:
        words = read_config(source).get("known_words")
        values |= {"known_words": words} if words else {}
        for name in _PROCESSOR:
            if is_file(source / name):
                write_whole(folder / name, (source / name).read_bytes())
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    state = {name: tensor.half() for name, tensor in model.state_dict().items() if name not in tied}
    save_checkpoint(folder, values, state)
    special = {"bos_token_id": prompting.bos_id, "pad_token_id": prompting.pad_id}
    write_defaults(folder, {**decoding, **special, "generation_kwargs": {"boi_token_id": prompting.boi_id}})
