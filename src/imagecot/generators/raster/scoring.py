"""Log-probabilities of complete codes under a generator in raster order: exact, by one pass of teacher forcing.

They are those of the model itself: temperature, top-k and top-p, which would make most codes impossible, play no part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imagecot.contracts.correction import Asked
from imagecot.contracts.paths import Paths
from imagecot.contracts.scorer import Terms
from imagecot.errors import UsageError
from imagecot.generators.raster.drawing import Started
from imagecot.generators.raster.sampling import Sampling, guided
from imagecot.generators.raster.transformer import CodeTransformer
from imagecot.generators.steps import stratified_steps


def texts(asked: Sequence[Asked]) -> list[str]:
    """The prompts of what was asked for; UsageError where it is a correction, which no such generator draws."""
    plain = [one for one in asked if isinstance(one, str)]
    if len(plain) != len(asked):
        raise UsageError("this generator draws no corrections; leave pairs of corrections out of its data.")
    return plain


def log_probs(
    transformer: CodeTransformer,
    prompts: Sequence[str],
    codes: Tensor,
    sampling: Sampling,
    positions: Tensor | None = None,
) -> Tensor:
    """Return log p(code | prompt, codes before) as float32 (R, M), with gradients.

    codes      (R, N) int64, complete
    sampling   of which guidance alone is looked at
    positions  (R, M) of the codes that are scored; None for all N
    """
    if positions is None:
        positions = torch.arange(codes.shape[1], device=codes.device).expand_as(codes)
    row = torch.arange(len(codes), device=codes.device)[:, None]
    logits = transformer.head(transformer.states(prompts, codes, against=False)[row, positions]).float()
    if sampling.guides(0):
        against = transformer.head(transformer.states(prompts, codes, against=True)[row, positions]).float()
        strengthened = guided(logits, against, sampling.guidance_scale)
        if sampling.guided_codes is not None:
            within = (positions < sampling.guided_codes)[..., None]
            strengthened = torch.where(within, strengthened, logits)
        logits = strengthened
    wanted = codes.gather(1, positions)
    return -F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view(wanted.shape)


def step_terms(transformer: CodeTransformer, states: Sequence[Paths], draws: int) -> Terms:
    """What `Scorer.step_terms` returns, under the guidance that the paths were drawn with; a step is a row of codes."""
    last = states[-1]
    started: Started = last.shared
    columns = last.codes.shape[1] // last.steps
    chosen = stratified_steps(last.seeds, last.steps, draws)
    positions = (chosen[:, :, None] * columns + torch.arange(columns, device=chosen.device)).flatten(1)
    prompts = [started.prompts[k] for k in last.prompt_index.tolist()]
    scores = log_probs(transformer, prompts, last.codes, started.sampling, positions)
    return Terms(scores, torch.full((len(scores),), 1 / positions.shape[1], device=scores.device))
