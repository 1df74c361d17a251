"""The recorded tiny Show-o."""

import dataclasses
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

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
    return load_file(DATA / "showo" / "recorded.safetensors")


def runs() -> dict:
    return json.loads((DATA / "showo" / "recorded.json").read_text())["runs"]


def tiny_showo() -> Showo:
    model = Showo(CONFIG).eval()
    tensors = {name.removeprefix("weights."): t for name, t in recorded().items() if name.startswith("weights.")}
    load_into(model, tensors, "recorded.safetensors")
    return model


def tiny_magvitv2() -> MagvitV2:
    model = MagvitV2(VQ_CONFIG).eval()
    tensors = load_file(DATA / "magvitv2" / "recorded.safetensors")
    load_into(
        model,
        {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")},
        "recorded",
    )
    return model


def tiny_prompting() -> Prompting:
    return Prompting.from_pretrained(DATA / "showo", CONFIG)


def tiny_generator(**options: object) -> ShowoGenerator:
    """The recorded models; prompts may be longer than recorded ones."""
    prompting = Prompting.from_pretrained(DATA / "showo", dataclasses.replace(CONFIG, max_text_len=32))
    return ShowoGenerator(tiny_showo(), tiny_magvitv2(), prompting, **options)  # type: ignore[arg-type]
