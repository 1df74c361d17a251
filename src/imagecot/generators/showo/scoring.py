"""The log-probability of given image codes under Show-o, with gradients, and what an alignment of it trains and leaves.

Rows are `[padding, text | soi, image, eoi]` as in training from scratch, padded to the longest text of the batch.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.checkpoint import CONFIG, read_config
from imagecot.contracts.correction import Asked, without_words
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.scorer import Draws, Terms
from imagecot.files import write_folder
from imagecot.generators.masked import likelihood
from imagecot.generators.settings import write_defaults
from imagecot.generators.showo.model import Showo, omni_attention_mask
from imagecot.generators.showo.prompting import Prompting
from imagecot.naming import inside
from imagecot.weights import save_checkpoint

if TYPE_CHECKING:
    from imagecot.generators.showo.generator import ShowoGenerator

# The linear layers of the trunk.
ADAPTED_LAYERS = r".*\.layers\..*\.(q_proj|k_proj|v_proj|dense|fc1|fc2)"


def log_probs(
    model: Showo,
    prompting: Prompting,
    asked: Sequence[Asked],
    codes: Tensor,
    hidden: Tensor,
    wanted: Tensor,
    *,
    guidance_scale: float = 0.0,
) -> Tensor:
    """Return log p(code | asked, codes that are not hidden) as float32 (R, N), 0 where nothing is wanted.

    asked           R prompts, with a correction each where an image was drawn again
    codes           (R, N) int64, complete
    hidden          (R, N) bool, the positions that the model does not see
    wanted          (R, N) bool, those of them that are scored
    guidance_scale  of the classifier-free guidance under which the codes were drawn; 0 is none
    """
    seen = codes.masked_fill(hidden, UNDECIDED)
    if guidance_scale:
        both = [*asked, *map(without_words, asked)]
        states = _states(model, prompting, both, torch.cat([seen, seen]))
        conditional, unconditional = states.chunk(2)
        states = (1 + guidance_scale) * conditional - guidance_scale * unconditional
    else:
        states = _states(model, prompting, asked, seen)
    if codes.device.type != "cpu":  # which would wait to be told how many are wanted
        scores = -F.cross_entropy(model.code_logits(states).float().flatten(0, 1), codes.flatten(), reduction="none")
        return scores.view_as(codes).masked_fill(~wanted, 0)
    scores = -F.cross_entropy(model.code_logits(states[wanted]).float(), codes[wanted], reduction="none")
    return torch.zeros(codes.shape, device=codes.device).masked_scatter(wanted, scores)


def _states(model: Showo, prompting: Prompting, asked: Sequence[Asked], codes: Tensor) -> Tensor:
    """Normalised states (R, N, D) at the image positions of codes (R, N), UNDECIDED where they are hidden."""
    ids = prompting.with_images(asked, codes)
    allowed = omni_attention_mask(ids, prompting.pad_id, prompting.soi_id, prompting.eoi_id)
    device = codes.device.type
    # A residual stream in autocast's type saves its casts before every layer: a sixth of the time of a step.
    mixed = torch.is_autocast_enabled(device)
    kind = torch.get_autocast_dtype(device) if mixed else model.dtype
    states: Tensor = model.showo.model(
        inputs_embeds=model.showo.model.embed_tokens(ids).to(kind),
        attention_mask=torch.zeros(allowed.shape, dtype=kind, device=codes.device).masked_fill(~allowed, -1e4),
    )
    return states[:, -codes.shape[1] - 1 : -1]


def log_likelihood(generator: "ShowoGenerator", asked: Sequence[Asked], codes: Tensor, draws: Draws) -> Tensor:
    """What `Scorer.log_likelihood` returns: the estimate by masks, without guidance."""
    codes = codes.to(generator.model.device)
    return likelihood.log_likelihood(partial(log_probs, generator.model, generator.prompting), asked, codes, draws)


def step_terms(generator: "ShowoGenerator", states: Sequence[Paths], draws: int) -> Terms:
    """What `Scorer.step_terms` returns, under the guidance that the paths were drawn with."""
    started = states[-1].shared
    asked = [started.asked[k] for k in states[-1].prompt_index.tolist()]
    scores = partial(log_probs, generator.model, generator.prompting, guidance_scale=started.guidance_scale)
    return likelihood.step_terms(scores, asked, states, draws)


def trainable(model: Showo) -> nn.Module:
    """The model, of which alignment trains the transformer; a projector of CLIP features beside it stays."""
    model.requires_grad_(False).showo.requires_grad_(True)
    if model.device.type == "cpu":
        # In bf16 on a CPU plain attention is a quarter faster than the fused kernel, whose backward pass is slow.
        model.showo.model.fused = False
    return model


def copied(generator: "ShowoGenerator", dtype: torch.dtype) -> "ShowoGenerator":
    """The generator with its own copy of the weights in another number format."""
    model = copy.deepcopy(generator.model).to(dtype).eval()
    return replace(generator, model=model, precision=str(dtype).removeprefix("torch."))


def save(generator: "ShowoGenerator", folder: Path) -> None:
    """Write a checkpoint folder: whole weights in half precision, text tokenizer, decoding defaults.

    Known words, and an image tokenizer that lies inside the folder that the generator was loaded from, come along.
    """
    config, source = generator.model.config, generator.folder
    write_folder(folder, generator.prompting.save_pretrained)
    own = inside(source, config.vq_model) if source else None
    if own is not None and (own / CONFIG).is_file():
        generator.image_tokenizer.save_pretrained(folder / config.vq_model)
    words = read_config(source).get("known_words") if source else None
    values = config.to_dict() | ({"known_words": words} if words else {})
    save_checkpoint(folder, values, copy.deepcopy(generator.model).half().state_dict())
    decoding = {
        "steps": generator.steps,
        "guidance_scale": generator.guidance_scale,
        "temperature": generator.temperature,
    }
    write_defaults(folder, decoding)
