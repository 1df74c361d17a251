"""The loss of preference pairs, with the reference's log-probabilities, which are computed once and kept on disk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from imagecot import interruption, peers
from imagecot.alignment.alignment import MOST_PAIRS, Alignment
from imagecot.alignment.pair_data import Pairs, load_pairs
from imagecot.alignment.policy import Policy
from imagecot.alignment.preference import dpo_loss
from imagecot.alignment.scores import Scores
from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.scorer import Draws
from imagecot.errors import ImagecotError, UsageError
from imagecot.training.order import epoch_order, is_held_out
from imagecot.training.parts import digest, in_parts
from imagecot.training.sharding import gathered
from imagecot.watch import SILENT, Watch

_SCORING = "scoring by the reference"
_HELD_OUT_VISIT = -1  # the visit whose masks the pairs of the evaluation have

Visit = tuple[int, int]  # epoch and pair


@dataclass(frozen=True)
class PairTerm:
    """The pairs of a training with all that their loss needs; `reference` (V, 2) has a row for each visit."""

    settings: Alignment
    scores: Scores
    pairs: Pairs
    visits: list[Visit]
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

    def means(self) -> dict[str, float]:
        """What `at` says of all visits, on average."""
        parts = []
        for places in _batches(0, len(self.visits), self.settings.batch_size):
            interruption.check()
            parts.append(self.at(places))
        return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}

    def named(self, places: Sequence[int]) -> str:
        """The pairs at some visits, for a message."""
        ids = [self.pairs.ids[self.visits[k][1]] for k in places]
        return f"the pairs {', '.join(ids[:3])}" + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def pair_terms(
    data: Path, settings: Alignment, policy: Policy, per_step: int, folder: Path, *, watch: Watch = SILENT
) -> tuple[PairTerm, PairTerm | None]:
    """The term of the pairs of `data` that are trained on, and that of those held out, if any.

    The former has `per_step` visits for each step that the settings ask for; `folder` keeps what is computed once.
    ImagecotError where every pair is held out.
    """
    device = policy.accelerator.device
    with gathered(policy.module), peers.first():
        pairs = load_pairs(data, policy.generator, folder, known_as=policy.known_as, device=device, watch=watch)
    _tell_of_alike(data, pairs, watch)
    held_out = [is_held_out(prompt, settings.held_out) for prompt in pairs.prompts]
    own = [k for k, held in enumerate(held_out) if not held]
    if not own:
        raise ImagecotError(f"{data} has too few prompts to hold some out; set training.held_out=0.")
    steps = settings.steps or max(1, math.ceil(settings.epochs * len(own) / per_step))
    if steps * per_step > MOST_PAIRS:
        raise UsageError(f"{settings.epochs:g} epochs show over {MOST_PAIRS:,} pairs; lower training.epochs.")
    visits = _visits(own, steps * per_step, settings.seed)
    others = [(_HELD_OUT_VISIT, k) for k, held in enumerate(held_out) if held]
    table = _reference_table(settings, pairs, visits + others, policy, folder, watch)
    term = PairTerm(settings, policy.scores, pairs, visits, table[: len(visits)])
    return term, replace(term, visits=others, reference=table[len(visits) :]) if others else None


def _tell_of_alike(data: Path, pairs: Pairs, watch: Watch) -> None:
    """Remark on pairs that teach nothing; ImagecotError where all of them do not."""
    alike = pairs.alike
    if len(alike) == len(pairs):
        raise ImagecotError(f"both images of every pair of {data} have the same codes; there is nothing to learn.")
    if alike:
        told = f"{len(alike)} of {len(pairs)} pairs of {data} have the same codes on both sides and teach nothing: "
        watch.tell(told + ", ".join(alike[:3]))


def _reference_table(
    settings: Alignment, pairs: Pairs, visits: list[Visit], policy: Policy, folder: Path, watch: Watch
) -> Tensor:
    """The reference's log-probabilities (V, 2) of both images at every visit, from `folder` where they are there."""

    def compute(first: int, last: int) -> Tensor:
        batches = _batches(first, last, settings.batch_size)
        return torch.cat(peers.spread(batches, score))

    def score(batch: range) -> Tensor:
        return _both_sides(policy.reference, pairs, [visits[k] for k in batch], settings).cpu()

    key = digest(policy.compared_to, _fingerprint_of(pairs))
    key = digest(key, repr(settings.draws), settings.precision, repr(visits), repr(settings.seed))
    table = in_parts(folder / f"reference-{key}", len(visits), compute, _SCORING, shared=True, watch=watch)
    if table.shape != (len(visits), 2) or not bool(torch.isfinite(table).all()):
        raise ImagecotError(
            "the reference gives the pairs no finite log-probabilities; its weights are damaged, or delete "
            f"{folder / f'reference-{key}'}."
        )
    return table


def _batches(first: int, last: int, size: int) -> list[range]:
    return [range(k, min(k + size, last)) for k in range(first, last, size)]


def _both_sides(scores: Scores, pairs: Pairs, visits: Sequence[Visit], settings: Alignment) -> Tensor:
    """Log-probabilities (B, 2) of chosen and rejected images; a visit has its own draws."""
    some = pairs.select([pair for _, pair in visits])
    names = [f"{epoch}:{pairs.ids[pair]}" for epoch, pair in visits]
    seeds = torch.tensor([prompt_seed(settings.seed, name) for name in names], device=some.chosen.device)
    draws = Draws(torch.cat([seeds, seeds]), settings.draws)
    return scores.log_likelihood(some.asked * 2, torch.cat([some.chosen, some.rejected]), draws).view(2, -1).T


def _fingerprint_of(pairs: Pairs) -> str:
    """What the log-probabilities of pairs depend on, as a short name."""
    codes = torch.cat([pairs.chosen, pairs.rejected]).to(torch.int32).cpu().numpy().tobytes()
    before = [c and (c.reasons, c.codes is not None and c.codes.tolist()) for c in pairs.corrections]
    return digest(codes, *pairs.prompts, *pairs.ids, *([repr(before)] if any(before) else []))


def _visits(own: list[int], count: int, seed: int) -> list[Visit]:
    """The pairs of a training in order; an epoch shows every one of `own` once."""
    visits: list[Visit] = []
    epoch = 0
    while len(visits) < count:
        visits += [(epoch, own[k]) for k in epoch_order([1.0] * len(own), seed, epoch)]
        epoch += 1
    return visits[:count]
