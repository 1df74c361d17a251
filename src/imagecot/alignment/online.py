"""Reward guidance: images drawn from the current policy, judged by a verifier, and a true policy gradient.

The paper's code adds the verifier's answer on images drawn without gradient, which moves no weight. Here the gradient
is that of the log-probability of the path, weighted by how much better the path did than others of its prompt (GRPO,
Shao et al., 2024; one update a draw, so there is no ratio to clip). `estimator: steps` scores what some of the steps of
a path decided, under the guidance that it was drawn with; its divergence from the reference is the mean over the codes.
`masks` takes the log-probability of the finished image, without guidance; its divergence is that of the mean
log-probability a code.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from imagecot import interruption
from imagecot.alignment.preference import divergence, group_advantages
from imagecot.alignment.scores import Scores
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import ORM, POTENTIAL
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.scorer import Draws
from imagecot.contracts.verifier import Verifier
from imagecot.errors import ImagecotError, UsageError
from imagecot.judging import judge_named
from imagecot.prompts import check_prompts
from imagecot.reading import Foreign, read_records
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Weight


class Online(BaseModel):
    """What guides by rewards: `weight` is lambda of loss = dpo_weight * DPO + lambda * this.

    verifier        who rewards: P(yes) to the ORM question, or `reward: mean` of it and of the potential question,
                    for a PARM; `self` is the base as it was before the training
    prompts         a file of `curate prompts`
    group           paths a prompt, compared with each other
    draws           steps of each path that are scored, or masks of its image
    kl              weight of the divergence from the reference, in nats a code
    """

    model_config = RECIPE

    verifier: Name
    prompts: Place
    weight: Weight = 1.0
    reward: Literal["orm", "mean"] = "orm"
    estimator: Literal["steps", "masks"] = "steps"
    group: Annotated[int, Field(strict=True, ge=2, le=10_000)] = 8
    prompts_a_step: Few = 2
    draws: Few = 6
    kl: Weight = 0.01


def judged_by(online: Online, base: str) -> Online:
    """The same with the name of its verifier, which may be the base; ValueError where the base cannot judge."""
    try:
        return online.model_copy(update={"verifier": judge_named(online.verifier, base)})
    except ImagecotError as error:
        raise ValueError(f"training.online.verifier: {str(error).rstrip('.')}") from None


class _Line(Foreign):
    """A line of a file of prompts."""

    prompt: str


def read_prompt_texts(file: Path, *models: object) -> list[str]:
    """The prompts of a file with a JSON object a line; UsageError naming the first line without one.

    models  what shall read them; a prompt that one of them says it cannot is refused, too
    """
    prompts = []
    for number, line in read_records(file, _Line, failure=UsageError, advice="give a file of curate prompts"):
        try:
            check_prompts([line.prompt], *models)
        except UsageError as error:
            raise UsageError(f"line {number} of {file}: {error}") from None
        prompts.append(line.prompt)
    if not prompts:
        raise UsageError(f"{file} has no prompts; curate some first.")
    return prompts


def draw(generator: Generator, prompts: Sequence[str], group: int, seed: int) -> list[Paths]:
    """All states of `group` paths of each prompt, from the empty canvas to the end.

    What belongs to each path, such as a cache, is kept of the last state alone.
    """
    seeds = torch.cat([path_seeds(prompt_seed(seed, prompt), group) for prompt in prompts])
    paths = generator.start([prompt for prompt in prompts for _ in range(group)], seeds)
    states: list[Paths] = []
    while not paths.finished:
        interruption.check()
        states.append(replace(paths, own=None))
        paths = generator.advance(paths)
    return [*states, paths]


def rewards(verifier: Verifier, images: Tensor, prompts: list[str], kind: str, batch: str) -> Tensor:
    """Return the rewards (B,) of images; ImagecotError naming `batch` for one that is no probability."""
    found = verifier.ask(images, prompts, ORM).float()
    if kind == "mean":
        found = (found + verifier.ask(images, prompts, POTENTIAL).float()) / 2
    wrong = [k for k, value in enumerate(found.tolist()) if not 0.0 <= value <= 1.0]
    if wrong:
        raise ImagecotError(
            f"the reward became {found[wrong[0]].item()} for the prompt {prompts[wrong[0]]!r} of {batch}; rewards lie "
            "in [0, 1], so the verifier's weights are damaged."
        )
    return found


def online_loss(
    settings: Online, scores: Scores, reference: Scores, texts: list[str], states: Sequence[Paths], reward: Tensor
) -> dict[str, Tensor]:
    """Return the loss of B paths and what describes it, by name.

    scores, reference  of the weights that are trained, and of those that are not
    texts              the prompts of the paths; a group's side by side
    states             of the paths, from step 0 to the end
    reward             (B,), in [0, 1]
    """
    codes = states[-1].codes
    reward = reward.to(codes.device)
    groups = reward.view(-1, settings.group)
    advantages = group_advantages(groups).flatten()
    if settings.estimator == "steps":
        terms, base = scores.step_terms(states, settings.draws), reference.step_terms(states, settings.draws)
        log_prob = terms.total()
        kl = terms.total(divergence(terms.log_probs, base.log_probs)).mean()
    else:
        draws, size = Draws(states[-1].seeds, settings.draws), codes.shape[1]
        log_prob, compared = (by.log_likelihood(texts, codes, draws) / size for by in (scores, reference))
        kl = divergence(log_prob, compared).mean()
    loss = -(advantages * log_prob).mean()
    return {
        "loss": loss + settings.kl * kl,
        "reward": reward.mean(),
        "spread": groups.std(1).mean(),
        "kl": kl.detach(),
    }
