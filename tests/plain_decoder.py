"""The recorded tiny Show-o, and a plain decoder to compare with.

The plain decoder recomputes everything at every step: the padded sequence of conditional and unconditional
rows, the head over the whole vocabulary at every position, one path at a time, one token at a time.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from imagecot.generators import randomness
from imagecot.generators.showo import MagvitV2, MagvitV2Config, Prompting, Showo, ShowoConfig, ShowoGenerator
from imagecot.generators.showo.model import omni_attention_mask
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
    return ShowoGenerator(tiny_showo(), tiny_magvitv2(), tiny_prompting(), **options)  # type: ignore[arg-type]


@torch.no_grad()
def plain_decode(generator: ShowoGenerator, prompt: str, seed: int) -> list[Tensor]:
    """Return the proposed codes (N,) of every step of one path."""
    model, prompting, config = generator.model, generator.prompting, generator.model.config
    g, steps, n = generator.guidance_scale, generator.steps, config.num_vq_tokens
    seeds = torch.tensor([seed])
    codes = [-1] * n
    history = []
    for step in range(steps):
        image_ids = torch.tensor([[config.mask_token_id if c < 0 else c + config.code_offset for c in codes]])
        ids = prompting.to_image([prompt, ""], image_ids.expand(2, -1))
        mask = omni_attention_mask(ids, prompting.pad_id, prompting.soi_id, prompting.eoi_id)
        conditional, unconditional = model(ids, mask)
        guided = ((1 + g) * conditional - g * unconditional)[-n - 1 : -1]
        probabilities = guided[:, config.code_offset : config.code_offset + config.codebook_size].softmax(-1)
        u = randomness.uniforms(seeds, step, randomness.CODES, n)[0].tolist()
        v = randomness.uniforms(seeds, step, randomness.MASKING, n)[0].tolist()
        ratio = torch.cos(torch.tensor((step + 1) / steps) * math.pi * 0.5)
        temperature = generator.temperature * (1 - (step + 1) / steps)
        proposed, confidence = list(codes), [math.inf] * n
        for i in range(n):
            if codes[i] >= 0:
                continue
            total = 0.0
            for code, p in enumerate(probabilities[i].tolist()):  # noqa: B007
                total += p
                if total > u[i]:
                    break
            proposed[i] = code
            noise = -math.log(max(-math.log(max(v[i], 1e-20)), 1e-20))
            confidence[i] = math.log(max(p, 1e-20)) + temperature * noise
        count = max(1, min(codes.count(-1) - 1, math.floor(n * ratio)))
        cut_off = sorted(confidence)[count]
        codes = [-1 if c < cut_off else code for c, code in zip(confidence, proposed, strict=True)]
        history.append(torch.tensor(proposed))
    return history
