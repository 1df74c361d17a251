"""The recorded tiny Show-o."""

import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor, nn

import recorded as recordings
from imagecot.generators.showo import MagvitV2, MagvitV2Config, Prompting, Showo, ShowoConfig, ShowoGenerator
from imagecot.weights import load_into

DATA = Path(__file__).parent / "data"
CONFIG = ShowoConfig(
    codebook_size=64,
    num_vq_tokens=16,
    llm_vocab_size=300,
    max_text_len=12,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=256,
    max_position_embeddings=64,
)
VQ_CONFIG = MagvitV2Config(
    channels=32,
    encoder_mult=(1, 2, 2),
    decoder_mult=(1, 1, 2),
    encoder_blocks=(2, 1, 2),
    decoder_blocks=(2, 2, 1),
    code_bits=6,
    image_size=16,
)


def recorded() -> dict[str, Tensor]:
    return recordings.read("showo/recorded")


def runs() -> dict:
    return json.loads((DATA / "showo" / "recorded.json").read_text())["runs"]


def tiny_showo() -> Showo:
    model = Showo(CONFIG).eval()
    scales = {"showo.model.embed_tokens.weight": 0.7, "showo.lm_head.weight": 0.25}
    load_into(model, recordings.drawn(shapes(model), 20250123, 1.4, 0.2, scales), "recorded")
    return model


def tiny_magvitv2() -> MagvitV2:
    model = MagvitV2(VQ_CONFIG).eval()
    # The reference's decoder ends with what ours begins with.
    ordered = sorted(shapes(model), key=lambda named: "post_quant_conv" in named[0])
    weights = recordings.drawn(ordered, 31, 1.2, 0.1, {})
    load_into(model, {**model.state_dict(), **weights}, "recorded")
    return model


def shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in model.named_parameters()]


def tiny_prompting() -> Prompting:
    return Prompting.from_pretrained(DATA / "showo", CONFIG)


def tiny_generator(**options: object) -> ShowoGenerator:
    """The recorded models; prompts may be longer than recorded ones."""
    prompting = Prompting.from_pretrained(DATA / "showo", dataclasses.replace(CONFIG, max_text_len=32))
    return ShowoGenerator(tiny_showo(), tiny_magvitv2(), prompting, **options)  # type: ignore[arg-type]
