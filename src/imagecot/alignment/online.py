"""Reward guidance: images drawn from the current policy, judged by a verifier, and a true policy gradient.

The paper's code adds the verifier's answer on images drawn without gradient, which moves no weight. Here the gradient
is that of the log-probability of the path, weighted by how much better the path did than others of its prompt (GRPO,
Shao et al., 2024; one update a draw, so there is no ratio to clip). A masked generator decides some codes in each step;
given the codes before, its path has the log-probability

    sum over steps t, sum over positions i decided in t of log p(x_i | codes decided before t, c)

under the guidance that the image was drawn with. Which positions are decided follows from the drawn confidences and
is taken as given. `estimator: steps` scores some of the steps, stratified and weighted so that the sum is unbiased;
`masks` uses the estimator of `likelihood`, without guidance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from imagecot import interruption
from imagecot.alignment.likelihood import mask_draws
from imagecot.alignment.preference import divergence, group_advantages
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import ORM, POTENTIAL
from imagecot.contracts.randomness import Stream, path_seeds, prompt_seed, uniforms
from imagecot.contracts.verifier import Verifier
from imagecot.errors import ImagecotError, UsageError
from imagecot.contracts.prompts import Reader
from imagecot.prompts import check_prompt
from imagecot.reading import Foreign, read_records
from imagecot.recipe_fields import RECIPE, Few, Name, Place, Weight



class Online(BaseModel):
    """What guides by rewards: `weight` is lambda of loss = dpo_weight * DPO + lambda * this.

    verifier        who rewards: P(yes) to the ORM question, or `reward: mean` of it and of the potential question,
                    for a PARM
    prompts         a file of `curate prompts`
    group           paths a prompt, compared with each other
    draws           steps (or masks) of each path that are scored
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


@dataclass(frozen=True)
class Rows:
    """What of B paths is scored: R = B * draws rows, those of a path side by side.

    masked, wanted  (R, N) bool, what the generator does not see, and what of that is scored
    weights         (R,), of each row's sum, so that a path's rows add up to its log-probability by N
    """

    masked: Tensor
    wanted: Tensor
    weights: Tensor


class _Line(Foreign):
    """A line of a file of prompts."""

    prompt: str


def read_prompt_texts(file: Path, *readers: Reader) -> list[str]:
    """The prompts of a file with a JSON object a line; UsageError naming the first line without one.

    readers  the models that shall read them; a prompt that one of them cannot is refused, too
    """
    prompts = []
    for number, line in read_records(file, _Line, failure=UsageError, advice="give a file of curate prompts"):
        try:
            prompt = check_prompt(line.prompt)
            for reader in readers:
                reader.check_prompt(prompt)
        except UsageError as error:
            raise UsageError(f"line {number} of {file}: {error}") from None
        prompts.append(prompt)
    if not prompts:
        raise UsageError(f"{file} has no prompts; curate some first.")
    return prompts


def draw(generator: Generator, prompts: Sequence[str], group: int, seed: int) -> list[Paths]:
    """All states of `group` paths of each prompt, from the empty canvas to the end."""
    seeds = torch.cat([path_seeds(prompt_seed(seed, prompt), group) for prompt in prompts])
    states = [generator.start([prompt for prompt in prompts for _ in range(group)], seeds)]
    while not states[-1].finished:
        interruption.check()
        states.append(generator.advance(states[-1]))
    return states


def scored_steps(states: Sequence[Paths], draws: int) -> Rows:
    """Choose `draws` steps of each path, one in each of as many equal parts of it; at most all of them.

    A row of step t sees what was decided before t and scores what t decided.
    """
    final = states[-1]
    steps, (paths, positions) = final.steps, final.codes.shape
    draws = min(draws, steps)
    u = uniforms(final.seeds, 0, Stream.STEPS, draws)
    chosen = ((torch.arange(draws, device=u.device) + u) * steps / draws).long().clamp(max=steps - 1)
    codes = torch.stack([state.codes for state in states], 1)  # (B, T + 1, N)
    path = torch.arange(paths, device=u.device)[:, None]
    masked = codes[path, chosen] == UNDECIDED
    wanted = masked & (codes[path, chosen + 1] != UNDECIDED)
    weights = torch.full((paths * draws,), steps / draws / positions, device=u.device)
    return Rows(masked=masked.flatten(0, 1), wanted=wanted.flatten(0, 1), weights=weights)


def scored_masks(states: Sequence[Paths], draws: int) -> Rows:
    """Hide `draws` times a share of each finished image, as `likelihood.log_likelihood` does."""
    masks = mask_draws(states[-1].seeds, draws, states[-1].codes.shape[1]).flatten(0, 1)
    return Rows(masked=masks, wanted=masks, weights=1 / draws / masks.sum(1))


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
    settings: Online,
    scores: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    generator: Generator,
    verifier: Verifier,
    prompts: Sequence[str],
    seed: int,
    batch: str,
) -> dict[str, Tensor]:
    """Draw, judge and score one batch of prompts; returns the loss and what describes it, by name.

    scores, reference  as `ShowoScores`, of the weights that are trained and of those that are not
    batch              what a message calls this batch
    """
    states = draw(generator, prompts, settings.group, seed)
    texts = [prompt for prompt in prompts for _ in range(settings.group)]
    codes = states[-1].codes
    reward = rewards(verifier, generator.preview(states[-1]), texts, settings.reward, batch).to(codes.device)
    advantages = group_advantages(reward.view(len(prompts), -1)).flatten()
    if settings.estimator == "steps":
        rows, guidance = scored_steps(states, settings.draws), getattr(generator, "guidance_scale", 0.0)
    else:
        rows, guidance = scored_masks(states, settings.draws), 0.0
    draws = len(rows.masked) // len(codes)
    arguments = ([t for t in texts for _ in range(draws)], codes.repeat_interleave(draws, 0), rows.masked, rows.wanted)
    log_probs = scores(*arguments, guidance)

    def per_path(values: Tensor) -> Tensor:
        return ((values * rows.wanted).sum(1) * rows.weights).view(-1, draws).sum(1)

    loss = -(advantages * per_path(log_probs)).mean()
    with torch.no_grad():
        base = reference(*arguments, guidance)
    kl = per_path(divergence(log_probs, base)).mean()
    return {
        "loss": loss + settings.kl * kl,
        "reward": reward.mean(),
        "spread": reward.view(len(prompts), -1).std(1).mean(),
        "kl": kl.detach(),
    }
