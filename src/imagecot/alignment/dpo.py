"""Preference alignment of a generator: DPO on pairs, reward guidance, or both (paper, sections 2.3 and 2.4).

    loss = dpo_weight * DPO + online.weight * guidance by rewards

With `dpo_weight: 0` it is plain online reinforcement (GRPO). Log-probabilities of the reference are computed once and
kept. Runs under `accelerate`: one process, DDP, FSDP or DeepSpeed by its own configuration. Departures from the paper's
code: both images of a pair see the same masks, a pair's prompt is never dropped, the codes alone are scored, and the
guidance has a gradient.
"""

from dataclasses import dataclass
from typing import Self

import torch
from pydantic import BaseModel, model_validator
from rich.progress import track
from torch import Tensor

from imagecot import interruption
from imagecot.alignment.aligned import write_aligned
from imagecot.alignment.alignment import Alignment
from imagecot.alignment.online import Online, draw, online_loss, read_prompt_texts, rewards
from imagecot.alignment.pair_data import content_of
from imagecot.alignment.pair_term import PairTerm, pair_terms
from imagecot.alignment.policy import Policy, load_policy
from imagecot.contracts.generator import Generator
from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.scorer import Draws
from imagecot.contracts.verifier import Verifier
from imagecot.errors import ImagecotError
from imagecot.recipe_fields import RECIPE, Name, Place
from imagecot.training.loop import Curves
from imagecot.training.order import epoch_order, schedule
from imagecot.training.output import Output, digest_of, open_output
from imagecot.training.pictures import save_grid, spread_over
from imagecot.training.state import resume, save_state

_PER_PROMPT = 2  # pictures of each fixed prompt


class DpoRecipe(BaseModel):
    """A recipe of `imagecot train dpo`.

    data       a folder of `curate pairs` or a dpo.jsonl; none where dpo_weight is 0
    reference  the generator that log-probabilities are compared with; the base by default
    """

    model_config = RECIPE

    output: Place
    base: Name
    data: Place | None = None
    reference: Name | None = None
    training: Alignment

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.training.dpo_weight and self.data is None:
            raise ValueError("data is missing, which a dpo_weight above 0 needs")
        return self


@dataclass(frozen=True)
class _Guidance:
    """The rewards' part of the loss: the prompts that are drawn, and who rewards."""

    online: Online
    seed: int
    prompts: list[str]
    verifier: Verifier
    policy: Policy

    def at(self, number: int, step: str) -> tuple[dict[str, Tensor], str]:
        """Loss and what describes it, of the draw `number`, and what a message calls that."""
        some = _some_prompts(self.prompts, self.online.prompts_a_step, number, self.seed)
        batch = f"{step} (the prompts {', '.join(repr(p) for p in some)})"
        generator = self.policy.drawer()
        states = draw(generator, some, self.online.group, prompt_seed(self.seed, f"draw {number}"))
        texts = [prompt for prompt in some for _ in range(self.online.group)]
        reward = rewards(self.verifier, generator.preview(states[-1]), texts, self.online.reward, batch)
        return online_loss(self.online, self.policy.scores, self.policy.reference, texts, states, reward), batch


@dataclass(frozen=True)
class _Run:
    """An alignment under way: the terms of its loss, and what an evaluation shows; `shown` are the fixed prompts."""

    settings: Alignment
    policy: Policy
    output: Output
    steps: int
    pairs: PairTerm | None
    held_out: PairTerm | None
    guidance: _Guidance | None
    verifier: Verifier | None
    shown: list[str]


def train_dpo(recipe: DpoRecipe, verifier: Verifier | None = None) -> Generator | None:
    """Align `recipe.base` and write it, or its adapter, to `recipe.output`; an interrupted run is resumed.

    verifier  who rewards, instead of loading the recipe's

    Returns what it trained, None where that was finished before. ImagecotError naming the batch where the loss is not
    finite or a reward is no probability.
    """
    settings, online = recipe.training, recipe.training.online
    output = _output(recipe, loads_verifier=verifier is None)
    if output.finished:
        return None
    run = _start(recipe, output, verifier)
    policy, generator = run.policy, run.policy.generator
    _train(run)
    policy.model.eval()
    if policy.accelerator.is_main_process:
        how = "DPO" if settings.dpo_weight else "GRPO"
        guided_by = f" guided by the rewards of `{online.verifier}`" if online and run.guidance else ""
        write_aligned(generator, policy.adapter, recipe.base, recipe.output, how + guided_by, recipe)
        output.finish()
    policy.accelerator.wait_for_everyone()
    return generator


def _output(recipe: DpoRecipe, *, loads_verifier: bool) -> Output:
    """The folder of a recipe, looked at before a model is loaded; so are its data."""
    online = recipe.training.online
    guided = online is not None and online.weight > 0
    models = {"base": ("generator", recipe.base), "reference": ("generator", recipe.reference or recipe.base)}
    files: dict[str, str | None] = {"data": None}
    if recipe.training.dpo_weight and recipe.data:
        files["data"] = content_of(recipe.data)
    if online is not None and guided:
        if loads_verifier:
            models["training.online.verifier"] = ("verifier", online.verifier)
        read_prompt_texts(online.prompts)
        files["training.online.prompts"] = digest_of([online.prompts])
    return open_output(recipe.output, "dpo", recipe, models=models, files=files)


def _start(recipe: DpoRecipe, output: Output, verifier: Verifier | None) -> _Run:
    """Load the models and the data of a recipe."""
    settings, online = recipe.training, recipe.training.online
    policy = load_policy(recipe.base, recipe.reference or recipe.base, settings)
    per_step = settings.batch_size * settings.accumulate * policy.accelerator.num_processes
    pairs = held_out = guidance = None
    if online and online.weight > 0:
        if verifier is None:
            from imagecot.verifiers import load_verifier

            verifier = load_verifier(online.verifier, device=policy.accelerator.device)
        prompts = read_prompt_texts(online.prompts, policy.generator, verifier)
        guidance = _Guidance(online, settings.seed, prompts, verifier, policy)
    if settings.dpo_weight and recipe.data:
        with policy.accelerator.main_process_first():
            pairs, held_out = pair_terms(recipe.data, settings, policy, per_step, output.prepare())
    return _Run(
        settings=settings,
        policy=policy,
        output=output,
        steps=settings.steps or (len(pairs.visits) // per_step if pairs else 0),
        pairs=pairs,
        held_out=held_out,
        guidance=guidance,
        verifier=verifier,
        shown=spread_over(pairs.pairs.prompts if pairs else guidance.prompts if guidance else [], settings.pictures),
    )


def _train(run: _Run) -> None:
    """Do the steps that are left, with curves, evaluations and states."""
    settings, accelerator, module = run.settings, run.policy.accelerator, run.policy.module
    folder, steps = run.output.prepare(), run.steps
    start = resume(accelerator, folder)
    curves = Curves(folder, start)
    if start == 0:
        for other in folder.glob("pictures-*.png"):  # of a training that did not come to its first state
            other.unlink(missing_ok=True)
        curves.add(0, _evaluate(run, 0))
    module.train()
    for step in track(range(start, steps), description="aligning", total=steps - start, transient=True):
        interruption.check()
        done = step + 1
        curves.add(done, _step(run, step))
        if done % settings.evaluate_every == 0 or done == steps:
            module.eval()
            curves.add(done, _evaluate(run, done))
            module.train()
        if done % settings.save_every == 0 or done == steps:
            run.output.claim(accelerator.is_main_process)
            if accelerator.is_main_process:
                curves.save()
            save_state(accelerator, folder, done)


def _step(run: _Run, step: int) -> dict[str, float]:
    """Move the weights once; what describes the losses, on average over all parts and processes."""
    settings, accelerator = run.settings, run.policy.accelerator
    module, optimizer = run.policy.module, run.policy.optimizer
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * schedule(step, run.steps, settings.warmup_ratio)
    noted: dict[str, list[Tensor]] = {}
    for part in range(settings.accumulate):
        number = (step * settings.accumulate + part) * accelerator.num_processes + accelerator.process_index
        with accelerator.accumulate(module):
            if run.pairs:
                places = range(number * settings.batch_size, (number + 1) * settings.batch_size)
                found = run.pairs.at(places)
                _refuse_nan(found["loss"].mean(), f"step {step} ({run.pairs.named(places)})")
                accelerator.backward(settings.dpo_weight * found["loss"].mean())
                _note(noted, "pairs", found)
            if run.guidance:
                found, batch = run.guidance.at(number, f"step {step}")
                _refuse_nan(found["loss"], batch)
                accelerator.backward(run.guidance.online.weight * found["loss"])
                _note(noted, "online", found)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad()
    return {name: float(accelerator.reduce(torch.stack(v).mean(), "mean")) for name, v in noted.items()}


def _evaluate(run: _Run, done: int) -> dict[str, float]:
    """Scores on the pairs held out, and on pictures of the fixed prompts, which are also kept."""
    with torch.no_grad():
        found = run.held_out.means() if run.held_out else {}
        if run.shown:
            found |= _evaluate_pictures(run, done)
    return {f"score/{name}": value for name, value in found.items()}


def _evaluate_pictures(run: _Run, done: int) -> dict[str, float]:
    """How far the policy is from the reference on pictures of its own (nats), and their reward where there is any."""
    settings, policy, online = run.settings, run.policy, run.settings.online
    paths = draw(policy.drawer(), run.shown, _PER_PROMPT, settings.seed)[-1]
    texts = [prompt for prompt in run.shown for _ in range(_PER_PROMPT)]
    draws = Draws(paths.seeds, settings.draws)
    ours, theirs = (by.log_likelihood(texts, paths.codes, draws) for by in (policy.plain, policy.reference))
    images = policy.generator.preview(paths)
    found = {"kl": float((ours - theirs).mean())}
    if run.verifier is not None and online:
        found["reward"] = float(rewards(run.verifier, images, texts, online.reward, "the evaluation").mean())
    if policy.accelerator.is_main_process:
        save_grid(run.output.training / f"pictures-{done:07d}.png", images, run.shown)
    return found


def _some_prompts(prompts: list[str], count: int, number: int, seed: int) -> list[str]:
    """The prompts of the draw `number`: every prompt once before any a second time."""
    found = []
    for place in range(number * count, (number + 1) * count):
        epoch, at = divmod(place, len(prompts))
        found.append(prompts[epoch_order([1.0] * len(prompts), seed, epoch)[at]])
    return found


def _refuse_nan(loss: Tensor, batch: str) -> None:
    if not torch.isfinite(loss):
        raise ImagecotError(f"the loss became {loss.item()} at {batch}; lower training.learning_rate.")


def _note(noted: dict[str, list[Tensor]], term: str, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        noted.setdefault(f"{term}/{name}", []).append(value.detach().mean())
