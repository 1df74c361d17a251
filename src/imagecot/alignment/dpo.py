"""Preference alignment of a generator: DPO on pairs, reward guidance, or both (paper, sections 2.3 and 2.4).

    loss = dpo_weight * DPO + online.weight * guidance by rewards

With `dpo_weight: 0` it is plain online reinforcement (GRPO). Log-probabilities of the reference are computed once and
kept. Runs as one process, or as several of `torchrun` that hold whole weights (DDP) or, with `shard`, shares of them
(FSDP2). Departures from the paper's code: both images of a pair see the same masks, a pair's prompt is never dropped,
the codes alone are scored, and the guidance has a gradient.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import BaseModel, model_validator
from torch import Tensor

from imagecot import peers
from imagecot.alignment.aligned import write_aligned
from imagecot.alignment.alignment import Alignment
from imagecot.alignment.online import Online, draw, judged_by, online_loss, read_prompt_texts, rewards
from imagecot.alignment.pair_data import content_of
from imagecot.alignment.pair_term import PairTerm, pair_terms
from imagecot.alignment.policy import Policy, load_policy, written
from imagecot.contracts.generator import Generator
from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.scorer import Draws
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Verifier
from imagecot.recipe_fields import RECIPE, Name, Place
from imagecot.training.loop import Course, Part, Term, Trained, fit
from imagecot.training.order import epoch_order
from imagecot.training.output import Output, digest_of, open_output
from imagecot.training.pictures import save_grid, spread_over
from imagecot.training.schedule import warmup_steps
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch

_PER_PROMPT = 2  # pictures of each fixed prompt


class DpoRecipe(BaseModel):
    """A recipe of `imagecot train dpo`.

    data       a folder of `curate pairs` or a dpo.jsonl; none where dpo_weight is 0
    reference  the generator that log-probabilities are compared with; the base by default
    """

    model_config = RECIPE

    kind: Literal["dpo"] = "dpo"
    output: Place
    report_to: ReportTo = []
    base: Name
    data: Place | None = None
    reference: Name | None = None
    training: Alignment

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.training.dpo_weight and self.data is None:
            raise ValueError("data is missing, which a dpo_weight above 0 needs")
        if self.training.online:
            online = judged_by(self.training.online, self.base)
            self.training = self.training.model_copy(update={"online": online})
        return self


@dataclass(frozen=True)
class _Guidance:
    """The rewards' part of the loss: the prompts that are drawn, and who rewards."""

    online: Online
    seed: int
    prompts: list[str]
    verifier: Verifier
    policy: Policy

    def at(self, part: Part) -> Term:
        """The term of a part, from a draw of its own."""
        some = _some_prompts(self.prompts, part.places(self.online.prompts_a_step), self.seed)
        batch = f"the prompts {', '.join(repr(p) for p in some)}"
        with self.policy.drawer() as generator:
            states = draw(generator, some, self.online.group, prompt_seed(self.seed, f"draw {part.number}"))
            images, named = generator.preview(states[-1]), f"step {part.step} ({batch})"
        texts = [prompt for prompt in some for _ in range(self.online.group)]
        reward = rewards(self.verifier, images, texts, self.online.reward, named)
        found = online_loss(self.online, self.policy.scores, self.policy.reference, texts, states, reward)
        return Term(found["loss"], _called("online", found), self.online.weight, batch)


@dataclass(frozen=True)
class _Alignment:
    """What an alignment minimises, and what an evaluation shows; `shown` are the fixed prompts."""

    settings: Alignment
    policy: Policy
    output: Output
    steps: int
    pairs: PairTerm | None
    held_out: PairTerm | None
    guidance: _Guidance | None
    verifier: Verifier | None
    shown: list[str]

    def terms(self, part: Part) -> Iterable[Term]:
        """Pairs, then guidance."""
        if self.pairs:
            places = part.places(self.settings.batch_size)
            found = self.pairs.at(places)
            loss, batch = found["loss"].mean(), self.pairs.named(places)
            yield Term(loss, _called("pairs", found), self.settings.dpo_weight, batch)
        if self.guidance:
            yield self.guidance.at(part)

    @torch.no_grad()
    def evaluate(self, done: int) -> Mapping[str, float]:
        """Scores on the pairs held out, and on pictures of the fixed prompts, which are also kept."""
        if not done:
            for other in self.output.training.glob("pictures-*.png"):  # of one that did not come to its first state
                other.unlink(missing_ok=True)
        found = self.held_out.means() if self.held_out else {}
        return found | self._pictures(done) if self.shown else found

    def _pictures(self, done: int) -> dict[str, float]:
        """How far the policy is from the reference on pictures of its own (nats), and their reward, if there is any."""
        settings, policy, online = self.settings, self.policy, self.settings.online
        with policy.drawer() as generator:
            paths = draw(generator, self.shown, _PER_PROMPT, settings.seed)[-1]
        texts = [prompt for prompt in self.shown for _ in range(_PER_PROMPT)]
        draws = Draws(paths.seeds, settings.draws)
        ours, theirs = (by.log_likelihood(texts, paths.codes, draws) for by in (policy.plain, policy.reference))
        images = policy.generator.preview(paths)
        found = {"kl": float((ours - theirs).mean())}
        if self.verifier is not None and online:
            found["reward"] = float(rewards(self.verifier, images, texts, online.reward, "the evaluation").mean())
        if policy.accelerator.is_main_process:
            save_grid(self.output.training / f"pictures-{done:07d}.png", images, self.shown)
        return found


def train_dpo(recipe: DpoRecipe, verifier: Verifier | None = None, *, watch: Watch = SILENT) -> Generator | None:
    """Align `recipe.base` and write it, or its adapter, to `recipe.output`; an interrupted run is resumed.

    verifier  who rewards, instead of loading the recipe's

    Returns what it trained, None where that was finished before. ImagecotError naming the batch where the loss is not
    finite or a reward is no probability.
    """
    settings, online = recipe.training, recipe.training.online
    output = _output(recipe, loads_verifier=verifier is None)
    if output.finished:
        return None
    alignment = _start(recipe, output, verifier, watch)
    policy = alignment.policy
    fit(
        Trained(policy.accelerator, policy.module, [policy.optimizer]),
        alignment,
        _course(recipe, alignment),
        output,
        watch=watch,
    )
    generator, adapter = written(policy, recipe.base, settings)
    with peers.first():
        if policy.accelerator.is_main_process:
            how = "DPO" if settings.dpo_weight else "GRPO"
            guided_by = f" guided by the rewards of `{online.verifier}`" if online and alignment.guidance else ""
            write_aligned(generator, adapter, recipe.base, recipe.output, how + guided_by, recipe)
            output.finish()
    return generator


def _course(recipe: DpoRecipe, alignment: _Alignment) -> Course:
    settings, online = recipe.training, recipe.training.online
    sizes = {"training.batch_size": settings.batch_size} if alignment.pairs else {}
    if alignment.guidance and online:
        sizes["training.online.prompts_a_step"] = online.prompts_a_step
    return Course(
        title=recipe.kind,
        steps=alignment.steps,
        sizes=sizes,
        seed=settings.seed,
        accumulate=settings.accumulate,
        warmup=warmup_steps(alignment.steps, settings.warmup_ratio),
        clip=settings.clip,
        record_every=1,
        evaluate_every=settings.evaluate_every,
        save_every=settings.save_every,
        scores_untrained=True,
    )


def _output(recipe: DpoRecipe, *, loads_verifier: bool) -> Output:
    """The folder of a recipe, looked at before a model is loaded; so are its data."""
    online = recipe.training.online
    guided = online is not None and online.weight > 0
    models = {"base": ("generator", recipe.base), "reference": ("generator", recipe.reference or recipe.base)}
    files: dict[str, JSON] = {"data": None}
    if recipe.training.dpo_weight and recipe.data:
        files["data"] = content_of(recipe.data)
    if online is not None and guided:
        if loads_verifier:
            models["training.online.verifier"] = ("verifier", online.verifier)
        read_prompt_texts(online.prompts)
        files["training.online.prompts"] = digest_of([online.prompts])
    return open_output(recipe, models=models, files=files)


def _start(recipe: DpoRecipe, output: Output, verifier: Verifier | None, watch: Watch) -> _Alignment:
    """Load the models and the data of a recipe."""
    settings, online = recipe.training, recipe.training.online
    policy = load_policy(recipe.base, recipe.reference or recipe.base, settings, output=output)
    per_step = settings.batch_size * settings.accumulate
    pairs = held_out = guidance = None
    if online and online.weight > 0:
        if verifier is None:
            from imagecot.verifiers import load_verifier

            verifier = load_verifier(online.verifier, device=policy.accelerator.device)
        prompts = read_prompt_texts(online.prompts, policy.generator, verifier)
        guidance = _Guidance(online, settings.seed, prompts, verifier, policy)
    if settings.dpo_weight and recipe.data:
        pairs, held_out = pair_terms(recipe.data, settings, policy, per_step, output.prepare(), watch=watch)
    return _Alignment(
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


def _some_prompts(prompts: list[str], places: Iterable[int], seed: int) -> list[str]:
    """The prompts at some places of the endless order: every prompt once before any a second time."""
    found = []
    for place in places:
        epoch, at = divmod(place, len(prompts))
        found.append(prompts[epoch_order([1.0] * len(prompts), seed, epoch)[at]])
    return found


def _called(term: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values under the name of their term."""
    return {f"{term}/{name}": value for name, value in values.items()}
