"""aMUSEd's logits, the log-probability of given codes under it, with gradients, and what an alignment of it leaves."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.checkpoint import CONFIG, PIPELINE, TRUNK, files_of, is_file, parts_of
from imagecot.contracts.correction import Asked
from imagecot.contracts.devices import sent
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.scorer import Draws, Terms
from imagecot.errors import UsageError
from imagecot.files import make_folder, write_atomically, write_whole
from imagecot.generators.masked import likelihood
from imagecot.generators.settings import write_defaults

if TYPE_CHECKING:
    from imagecot.generators.amused.generator import AmusedGenerator, Started

# The linear layers of the trunk: attention to the image and to the text, and the feed-forward.
ADAPTED_LAYERS = r"transformer_layers\..*\.(to_q|to_k|to_v|to_out\.0|net\.0\.proj|net\.2)"
DECODING = ("steps", "guidance_scale", "temperature", "negative_prompt", "aesthetic_score")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def logits(
    generator: "AmusedGenerator", codes: Tensor, places: Tensor, prompt_index: Tensor, started: "Started"
) -> Tensor:
    """Return float32 logits (B, K, codebook_size), guided as `started` says, at K places (B, K).

    codes         (B, N), UNDECIDED where masked
    prompt_index  (B,) of the prompts in `started`
    """
    model, prompt_index = generator.model, sent(prompt_index, codes.device)
    rows = codes.masked_fill(codes == UNDECIDED, generator.mask_id).unflatten(1, generator.canvas.grid)
    texts = started.texts.at(prompt_index)
    if started.against is not None:
        rows = torch.cat([rows, rows])
        texts = started.against.at(torch.zeros_like(prompt_index)).followed_by(texts)
    found = model(
        rows,
        encoder_hidden_states=texts.states.to(model.dtype),
        pooled_text_emb=texts.pooled.to(model.dtype),
        micro_conds=started.conditions.to(model.dtype).expand(len(rows), -1),
    )
    found = found.flatten(2).transpose(1, 2)
    row = torch.arange(len(codes), device=codes.device)[:, None]
    if started.against is None:
        return found[row, places].float()
    unconditional, conditional = (part[row, places].float() for part in found.chunk(2))
    return unconditional + started.guidance_scale * (conditional - unconditional)


def log_probs(
    generator: "AmusedGenerator",
    asked: Sequence[Asked],
    codes: Tensor,
    hidden: Tensor,
    wanted: Tensor,
    *,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Return log p(code | asked, codes that are not hidden) as float32 (R, N), 0 where nothing is wanted.

    asked           R prompts
    codes           (R, N) int64, complete
    hidden          (R, N) bool, the positions that the model does not see
    wanted          (R, N) bool, those of them that are scored
    guidance_scale  of the classifier-free guidance under which the codes were drawn; 1 is none

    UsageError for a correction, which this model was not made for.
    """
    prompts = [one for one in asked if isinstance(one, str)]
    if len(prompts) < len(asked):
        raise UsageError("aMUSEd draws no image again that was rejected; leave out corrections.")
    distinct = list(dict.fromkeys(prompts))
    started = generator.conditioned(distinct, guidance_scale)
    index = torch.tensor([distinct.index(prompt) for prompt in prompts])
    everywhere = torch.arange(codes.shape[1], device=codes.device).expand_as(codes)
    found = logits(generator, codes.masked_fill(hidden, UNDECIDED), everywhere, index, started)
    scores = -F.cross_entropy(found.flatten(0, 1), codes.flatten(), reduction="none")
    return scores.view_as(codes).masked_fill(~wanted, 0)


def log_likelihood(generator: "AmusedGenerator", asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
    """What `Scorer.log_likelihood` returns: the estimate by masks, without guidance."""
    codes = codes.to(generator.model.device)
    return likelihood.log_likelihood(partial(log_probs, generator), asked, codes, draws)


def step_terms(generator: "AmusedGenerator", states: Sequence[Paths], draws: int) -> Terms:
    """What `Scorer.step_terms` returns, under the guidance that the paths were drawn with."""
    started = states[-1].shared
    asked = [started.asked[k] for k in states[-1].prompt_index.tolist()]
    scores = partial(log_probs, generator, guidance_scale=started.guidance_scale)
    return likelihood.step_terms(scores, asked, states, draws)


def copied(generator: "AmusedGenerator", dtype: torch.dtype) -> "AmusedGenerator":
    """The generator with its own copy of the weights in another number format."""
    model = copy.deepcopy(generator.model).eval()
    cast: nn.Module = model  # the stub of `to` asks for a model
    cast.to(dtype)
    return replace(generator, model=model, precision=str(dtype).removeprefix("torch."))


def save(generator: "AmusedGenerator", folder: Path) -> None:
    """Write a folder that diffusers reads too: the U-ViT in half precision, the other parts as they were.

    Settings of drawing go into `generation_config.json`, which diffusers ignores.
    """
    source = generator.folder
    make_folder(folder)
    for name, part in parts_of(source).items():
        own = [part / CONFIG] if is_file(part / CONFIG) else []
        if name != TRUNK:
            make_folder(folder / name)
            for file in (*own, *files_of(part)):
                write_whole(folder / name / file.name, file.read_bytes())
    make_folder(folder / TRUNK)
    state = {name: tensor.detach().half().cpu().contiguous() for name, tensor in generator.model.state_dict().items()}
    write_atomically(folder / TRUNK / WEIGHTS, lambda part: save_file(state, part, metadata={"format": "pt"}))
    write_whole(folder / TRUNK / CONFIG, (source / TRUNK / CONFIG).read_bytes())
    decoding = {name: vars(generator)[name] for name in DECODING}
    write_defaults(folder, decoding)
    write_whole(folder / PIPELINE, (source / PIPELINE).read_bytes())
