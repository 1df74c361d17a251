"""Show-o decoded plainly: the yardstick of speed, and the oracle of the tests.

At every step all is computed anew: the padded sequence of conditional and unconditional rows, the head over the whole
vocabulary at every position, one path at a time, one token at a time. Only the cosine schedule is known.
"""

import math

import torch
from torch import Tensor

from imagecot.contracts import randomness
from imagecot.generators.showo import ShowoGenerator, omni_attention_mask


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
        ids = prompting.to_image([prompt, ""], image_ids.expand(2, -1)).to(model.device)
        mask = omni_attention_mask(ids, prompting.pad_id, prompting.soi_id, prompting.eoi_id)
        conditional, unconditional = model(ids, mask)
        guided = ((1 + g) * conditional - g * unconditional)[-n - 1 : -1]
        probabilities = guided[:, config.code_offset : config.code_offset + config.codebook_size].softmax(-1).cpu()
        u = randomness.uniforms(seeds, step, randomness.Stream.CODES, n)[0].tolist()
        v = randomness.uniforms(seeds, step, randomness.Stream.MASKING, n)[0].tolist()
        ratio = torch.cos(torch.tensor((step + 1) / steps) * math.pi * 0.5)
        temperature = generator.temperature * (1 - (step + 1) / steps)
        proposed, confidence = list(codes), [math.inf] * n
        for i in range(n):
            if codes[i] >= 0:
                continue
            below = int((probabilities[i].double().cumsum(0) <= u[i]).sum())
            proposed[i] = min(below, config.codebook_size - 1)
            noise = -math.log(max(-math.log(max(v[i], 1e-20)), 1e-20))
            confidence[i] = math.log(max(float(probabilities[i, proposed[i]]), 1e-20)) + temperature * noise
        count = max(1, min(codes.count(-1) - 1, math.floor(n * ratio)))
        cut_off = sorted(confidence)[count]
        codes = [-1 if c < cut_off else code for c, code in zip(confidence, proposed, strict=True)]
        history.append(torch.tensor(proposed))
    return history
