"""The plain decoder of a Janus: it reads prompt and codes anew for every code of every path, and keeps nothing."""

import torch
from torch import Tensor

from imagecot.contracts.randomness import Stream, uniforms
from imagecot.generators.janus.generator import JanusGenerator


@torch.no_grad()
def logits_after(generator: JanusGenerator, prompt: str, codes: Tensor, *, against: bool = False) -> Tensor:
    """Logits (codes,) of the code behind codes (n,), by the stock model."""
    model, prompting = generator.model, generator.prompting
    ids = prompting.ids(prompt)
    if against:
        ids = [one if one in (prompting.bos_id, prompting.boi_id) else prompting.pad_id for one in ids]
    text = model.model.language_model.embed_tokens(torch.tensor([ids]))
    read = torch.cat([text, model.prepare_embeddings_for_image_generation(codes[None])], 1)
    state = model.model.language_model(inputs_embeds=read, use_cache=False).last_hidden_state[0, -1]
    return model.model.generation_head(state).float()


def guided_logits(generator: JanusGenerator, prompt: str, codes: Tensor, guided_codes: int | None = None) -> Tensor:
    """Logits (codes,) of the code behind codes (n,), under the generator's guidance."""
    logits, scale = logits_after(generator, prompt, codes), generator.guidance_scale
    if scale == 1 or (guided_codes is not None and len(codes) >= guided_codes):
        return logits
    without = logits_after(generator, prompt, codes, against=True)
    return without + scale * (logits - without)


def draw_plainly(generator: JanusGenerator, prompt: str, seed: int, guided_codes: int | None = None) -> Tensor:
    """The codes (N,) of the path of a seed, without top-k and top-p."""
    rows, columns = generator.canvas.grid
    codes = torch.zeros(0, dtype=torch.int64)
    for row in range(rows):
        for uniform in uniforms(torch.tensor([seed]), row, Stream.CODES, columns)[0]:
            logits = guided_logits(generator, prompt, codes, guided_codes)
            if generator.temperature:
                shares = (logits / generator.temperature).softmax(0).cumsum(0)
                code = int((shares <= uniform * shares[-1]).sum())
            else:
                code = int(logits.argmax())
            codes = torch.cat([codes, torch.tensor([code])])
    return codes
