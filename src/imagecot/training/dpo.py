"""Preference alignment of a generator: DPO on pairs, reward guidance, or both (paper, sections 2.3 and 2.4).

    loss = dpo_weight * DPO + online.weight * guidance by rewards

With `dpo_weight: 0` it is plain online reinforcement (GRPO). Log-probabilities of the reference are computed once and
kept. Runs under `accelerate`: one process, DDP, FSDP or DeepSpeed by its own configuration. Departures from the paper's
code: both images of a pair see the same masks, a pair's prompt is never dropped, the codes alone are scored, and the
guidance has a gradient.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rich.progress import track
from torch import Tensor

from imagecot.errors import ImagecotError
from imagecot.files import clear_write_errors
from imagecot.generators import load_generator
from imagecot.generators.randomness import prompt_seed
from imagecot.generators.showo import ShowoGenerator
from imagecot.generators.showo.scoring import ShowoScores
from imagecot.training.aligned import add_lora, write_aligned
from imagecot.training.finetune import Lora, epoch_order, is_held_out, schedule
from imagecot.training.likelihood import log_likelihood, mask_draws
from imagecot.training.loop import Curves
from imagecot.training.online import Online, draw, online_loss, read_prompt_texts, rewards
from imagecot.training.pair_data import Pairs, digest, fingerprint, in_parts, load_pairs
from imagecot.training.pictures import save_grid, spread_over
from imagecot.training.preference import PreferenceLoss, dpo_loss
from imagecot.training.state import resume, save_state
from imagecot.verifiers.protocol import Verifier

_HELD_OUT_VISIT = -1  # the visit whose masks the pairs of the evaluation have
_PER_PROMPT = 2  # pictures of each fixed prompt


class Alignment(BaseModel):
    """How a generator is aligned. A step sees `batch_size` pairs a process, `accumulate` times.

    beta, loss, label_smoothing  see `preference.dpo_loss`
    likelihood                   weight of the chosen images' negative log-likelihood in nats a code, which keeps a
                                 round from making chosen and rejected images both less likely (Pang et al., 2024)
    draws                        masks by which the log-probability of an image is estimated
    steps                        instead of `epochs` over the pairs
    held_out                     share of the prompts whose pairs are for evaluation only
    pictures                     how many fixed prompts are drawn at each evaluation
    """

    model_config = ConfigDict(extra="forbid")

    dpo_weight: float = Field(1.0, ge=0)
    online: Online | None = None
    beta: float = Field(0.1, gt=0)
    loss: PreferenceLoss = "sigmoid"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    likelihood: float = Field(0.0, ge=0)
    draws: int = Field(4, ge=1)
    epochs: float = Field(1.0, gt=0)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(10, ge=1)
    accumulate: int = Field(1, ge=1)
    learning_rate: float = 1e-5
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    precision: Literal["no", "bf16", "fp16"] = "no"
    held_out: float = Field(0.05, ge=0, lt=1)
    pictures: int = Field(8, ge=0)
    evaluate_every: int = Field(100, ge=1)
    save_every: int = Field(100, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if not self.dpo_weight and not (self.online and self.online.weight):
            raise ValueError("dpo_weight is 0, so online must be given with a weight above 0")
        if not self.dpo_weight and not self.steps:
            raise ValueError("without pairs there are no epochs, so steps must be given")
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing goes with the sigmoid loss only")
        return self


class DpoRecipe(BaseModel):
    """A recipe of `imagecot train dpo`.

    data       a folder of `curate pairs` or a dpo.jsonl; none where dpo_weight is 0
    reference  the generator that log-probabilities are compared with; the base by default
    """

    model_config = ConfigDict(extra="forbid")

    output: Path
    base: str
    data: Path | None = None
    reference: str | None = None
    training: Alignment

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.training.dpo_weight and self.data is None:
            raise ValueError("data is missing, which a dpo_weight above 0 needs")
        return self


@dataclasses.dataclass(frozen=True)
class _PairTerm:
    """The pairs of a training with all that their loss needs; `reference` (V, 2) has a row for each visit."""

    settings: Alignment
    scores: Callable[..., Tensor]
    pairs: Pairs
    visits: list[tuple[int, int]]  # (epoch, pair)
    reference: Tensor

    def at(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Losses and what describes them (B,) at some visits."""
        log_probs = _both_sides(self.scores, self.pairs, [self.visits[k] for k in places], self.settings)
        reference = self.reference[list(places)].to(log_probs.device)
        losses, chosen, rejected = dpo_loss(
            *log_probs.unbind(1),
            *reference.unbind(1),
            beta=self.settings.beta,
            kind=self.settings.loss,
            label_smoothing=self.settings.label_smoothing,
        )
        margin = chosen - rejected
        per_code = log_probs[:, 0] / self.pairs.chosen.shape[1]
        return {
            "loss": losses - self.settings.likelihood * per_code,
            "margin": margin,
            "accuracy": (margin > 0).float(),
            "reward_chosen": chosen,
            "reward_rejected": rejected,
            "log_prob_chosen": log_probs[:, 0].detach(),
        }

    def named(self, places: Sequence[int]) -> str:
        """The pairs at some visits, for a message."""
        ids = [self.pairs.ids[self.visits[k][1]] for k in places]
        return f"the pairs {', '.join(ids[:3])}" + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def _both_sides(
    scores: Callable[..., Tensor], pairs: Pairs, visits: Sequence[tuple[int, int]], settings: Alignment
) -> Tensor:
    """Log-probabilities (B, 2) of chosen and rejected images; a visit has its own masks."""
    some = pairs.select([pair for _, pair in visits])
    names = [f"{epoch}:{pairs.ids[pair]}" for epoch, pair in visits]
    seeds = torch.tensor([prompt_seed(settings.seed, name) for name in names], device=some.chosen.device)
    masks = mask_draws(seeds, settings.draws, some.chosen.shape[1])
    codes = torch.cat([some.chosen, some.rejected])
    return log_likelihood(scores, some.prompts * 2, codes, torch.cat([masks, masks])).view(2, -1).T


def train_dpo(recipe: DpoRecipe, verifier: Verifier | None = None) -> ShowoGenerator:
    """Align `recipe.base` and write it, or its adapter, to `recipe.output`; an interrupted run is resumed.

    verifier  who rewards, instead of loading the recipe's

    ImagecotError naming the batch where the loss is not finite or a reward is no probability.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    settings, online = recipe.training, recipe.training.online
    accelerator = Accelerator(
        mixed_precision=settings.precision,
        gradient_accumulation_steps=settings.accumulate,
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    torch.manual_seed(settings.seed)
    device = accelerator.device
    generator = load_generator(recipe.base, device=device, dtype=torch.float32)
    fixed = load_generator(recipe.reference or recipe.base, device=device, dtype=torch.float32)
    fixed.model.requires_grad_(False)
    adapter = add_lora(generator.model, settings.lora, recipe.base) if settings.lora else None
    if adapter is None:
        generator.model.requires_grad_(False).showo.requires_grad_(True)
    if settings.gradient_checkpointing:
        generator.model.showo.gradient_checkpointing_enable()
    plain = ShowoScores(generator.model, generator.prompting)
    optimizer: Any = torch.optim.AdamW(
        [p for p in plain.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    scores, optimizer = accelerator.prepare(plain, optimizer)
    folder = recipe.output / "training"
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)

    drawer = _drawing(generator, settings.precision)
    fixed_scores = ShowoScores(fixed.model, fixed.prompting)

    @torch.no_grad()
    def reference(
        prompts: list[str], codes: Tensor, masked: Tensor, wanted: Tensor | None = None, guidance: float = 0.0
    ) -> Tensor:
        with accelerator.autocast():
            return fixed_scores(prompts, codes, masked, wanted, guidance)

    world, rank = accelerator.num_processes, accelerator.process_index
    per_step = settings.batch_size * world * settings.accumulate
    steps = settings.steps or 0
    term = held = None
    if settings.dpo_weight and recipe.data:
        with accelerator.main_process_first():
            pairs = load_pairs(recipe.data, generator.image_tokenizer, folder)
            own = [k for k in range(len(pairs)) if not is_held_out(pairs.prompts[k], settings.held_out)]
            if not own:
                raise ImagecotError(f"{recipe.data} has too few prompts to hold some out; set training.held_out=0.")
            steps = steps or max(1, math.ceil(settings.epochs * len(own) / per_step))
            visits = _visits(own, steps * per_step, settings.seed)
            others = [(_HELD_OUT_VISIT, k) for k in range(len(pairs)) if k not in set(own)]
            key = digest(fingerprint(fixed.model), fingerprint_of(pairs), repr(settings.draws), settings.precision)
            all_visits = visits + others

            def compute(first: int, last: int) -> Tensor:
                parts = [
                    _both_sides(reference, pairs, all_visits[k : min(k + settings.batch_size, last)], settings)
                    for k in range(first, last, settings.batch_size)
                ]
                return torch.cat(parts)

            key = digest(key, repr(all_visits), repr(settings.seed))
            table = in_parts(folder / f"reference-{key}", len(all_visits), compute, "scoring by the reference")
        term = _PairTerm(settings, scores, pairs, visits, table[: len(visits)])
        held = dataclasses.replace(term, visits=others, reference=table[len(visits) :]) if others else None
    guided = online is not None and online.weight > 0
    prompts = read_prompt_texts(online.prompts) if online and guided else []
    if online and guided and verifier is None:
        from imagecot.verifiers import load_verifier

        verifier = load_verifier(online.verifier, device=device)
    shown = spread_over(term.pairs.prompts if term else prompts, settings.pictures)

    start = resume(accelerator, folder)
    curves = Curves(folder, start)

    @torch.no_grad()
    def evaluate(done: int) -> dict[str, float]:
        found: dict[str, float] = {}
        if held:
            parts = [
                held.at(range(k, min(k + settings.batch_size, len(held.visits))))
                for k in range(0, len(held.visits), settings.batch_size)
            ]
            found |= {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}
        if shown:
            paths = draw(drawer(), shown, _PER_PROMPT, settings.seed)[-1]
            texts = [prompt for prompt in shown for _ in range(_PER_PROMPT)]
            masks = mask_draws(paths.seeds, settings.draws, paths.codes.shape[1])
            with accelerator.autocast():
                ratio = log_likelihood(plain, texts, paths.codes, masks) - log_likelihood(
                    reference, texts, paths.codes, masks
                )
            images = generator.preview(paths)
            found["kl"] = float(ratio.mean())
            if verifier is not None and online:
                found["reward"] = float(rewards(verifier, images, texts, online.reward, "the evaluation").mean())
            if accelerator.is_main_process:
                save_grid(folder / f"pictures-{done:07d}.png", images, shown)
        return {f"score/{name}": value for name, value in found.items()}

    if start == 0:
        curves.add(0, evaluate(0))
    scores.train()
    for step in track(range(start, steps), description="aligning", total=steps - start, transient=True):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, steps, settings.warmup_ratio)
        noted: dict[str, list[Tensor]] = {}
        for part in range(settings.accumulate):
            with accelerator.accumulate(scores):
                shift = part * world + rank
                if term:
                    first = step * per_step + shift * settings.batch_size
                    places = range(first, first + settings.batch_size)
                    found = term.at(places)
                    _refuse_nan(found["loss"].mean(), f"step {step} ({term.named(places)})")
                    accelerator.backward(settings.dpo_weight * found["loss"].mean())
                    _note(noted, "pairs", found)
                if online and guided and verifier is not None:
                    number = (step * settings.accumulate + part) * world + rank
                    some = _some_prompts(prompts, online.prompts_a_step, number, settings.seed)
                    name = f"step {step} (the prompts {', '.join(repr(p) for p in some)})"
                    seed = prompt_seed(settings.seed, f"draw {number}")
                    found = online_loss(online, scores, reference, drawer(), verifier, some, seed, name)
                    _refuse_nan(found["loss"], name)
                    accelerator.backward(online.weight * found["loss"])
                    _note(noted, "online", found)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(scores.parameters(), settings.clip)
                optimizer.step()
                optimizer.zero_grad()
        done = step + 1
        curves.add(done, {n: float(accelerator.reduce(torch.stack(v).mean(), "mean")) for n, v in noted.items()})
        if done % settings.evaluate_every == 0 or done == steps:
            scores.eval()
            curves.add(done, evaluate(done))
            scores.train()
        if done % settings.save_every == 0 or done == steps:
            if accelerator.is_main_process:
                curves.save()
            save_state(accelerator, folder, done)
    generator.model.eval()
    if accelerator.is_main_process:
        how = "DPO" if settings.dpo_weight else "GRPO"
        guided_by = f" guided by the rewards of `{online.verifier}`" if online and guided else ""
        write_aligned(generator, adapter, recipe.base, recipe.output, how + guided_by, recipe)
    return generator


def _drawing(generator: ShowoGenerator, precision: str) -> Callable[[], ShowoGenerator]:
    """What draws with the weights of now: the generator, or in mixed precision a copy in half, as it is faster."""
    if precision == "no":
        return lambda: generator
    half = copy.deepcopy(generator.model).to(torch.bfloat16 if precision == "bf16" else torch.float16).eval()
    drawing = dataclasses.replace(generator, model=half)

    @torch.no_grad()
    def current() -> ShowoGenerator:
        for kept, trained in zip(half.parameters(), generator.model.parameters(), strict=True):
            kept.copy_(trained)
        return drawing

    return current


def fingerprint_of(pairs: Pairs) -> str:
    """What the log-probabilities of pairs depend on, as a short name."""
    codes = torch.cat([pairs.chosen, pairs.rejected]).to(torch.int16).cpu().numpy().tobytes()
    return digest(codes, *pairs.prompts, *pairs.ids)


def _visits(own: list[int], count: int, seed: int) -> list[tuple[int, int]]:
    """The pairs of a training in order, each as (epoch, pair); an epoch shows every one of `own` once."""
    visits: list[tuple[int, int]] = []
    epoch = 0
    while len(visits) < count:
        visits += [(epoch, own[k]) for k in epoch_order([1.0] * len(own), seed, epoch)]
        epoch += 1
    return visits[:count]


def _some_prompts(prompts: list[str], count: int, number: int, seed: int) -> list[str]:
    """The prompts of the draw `number`: every prompt once before any a second time."""
    found = []
    for place in range(number * count, (number + 1) * count):
        epoch, at = divmod(place, len(prompts))
        found.append(prompts[epoch_order([1.0] * len(prompts), seed, epoch)[at]])
    return found


def _refuse_nan(loss: Tensor, batch: str) -> None:
    if not torch.isfinite(loss):
        raise ImagecotError(f"The loss became {loss.item()} at {batch}; lower training.learning_rate.")


def _note(noted: dict[str, list[Tensor]], term: str, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        noted.setdefault(f"{term}/{name}", []).append(value.detach().mean())
