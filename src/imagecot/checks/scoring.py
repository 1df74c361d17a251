"""What is tried of a generator that scores images; all on a copy in float32, since training may change a model."""

from pathlib import Path

import torch
from torch import Tensor

from imagecot.checks.drawing import Subject
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import states
from imagecot.contracts.scorer import Draws, Scorer

_COUNT = 2  # draws that are averaged, steps that are scored
_CLOSE = 1e-3  # nats a code: products of another batch size round otherwise


def scores_are_log_probabilities(subject: Subject) -> str | None:
    """`log_likelihood` gives numbers (B,) up to 0, the same for the same draws and of each image alone."""
    scorer, (codes, draws) = _scorer(subject), _given(subject)
    prompts = [subject.prompts[0]] * 3
    found, again = (_score(scorer, prompts, codes, draws).detach() for _ in range(2))
    if tuple(found.shape) != (3,) or not found.is_floating_point():
        return f"log_likelihood of 3 images returns {tuple(found.shape)} {found.dtype}; return (3,) in nats."
    if not bool(torch.isfinite(found).all()) or bool((found > 1e-3).any()):
        return f"log_likelihood returns {found.tolist()}; logarithms of probabilities are finite and not above 0."
    if not torch.allclose(found, again, rtol=1e-4, atol=1e-3):
        return "log_likelihood differs from call to call under the same draws; let `draws` be its only randomness."
    alone = torch.cat(
        [_score(scorer, prompts[:1], codes[[k]], Draws(draws.seeds[[k]], draws.count)).detach() for k in range(3)]
    )
    if bool(((found - alone).abs() > _CLOSE * codes.shape[1]).any()):
        return f"log_likelihood gives {found.tolist()} together and {alone.tolist()} alone; score each image by itself."
    return None


def steps_are_scored(subject: Subject) -> str | None:
    """`step_terms` gives log-probabilities (B, M) and weights (B,) of paths that the generator drew."""
    generator = subject.generator
    scorer = _scorer(subject)
    assert isinstance(scorer, Generator)
    start = scorer.start([subject.prompts[0]], subject.seeds)
    passed = [start, *states(scorer, start)]
    for count in (1, generator.steps):
        terms = scorer.step_terms(passed, count)
        if terms.log_probs.ndim != 2 or len(terms.log_probs) != 3 or tuple(terms.weights.shape) != (3,):
            return (
                f"step_terms of 3 paths returns {tuple(terms.log_probs.shape)} and weights "
                f"{tuple(terms.weights.shape)}; return (3, M) and (3,)."
            )
        total = terms.total().detach()
        if not bool(torch.isfinite(total).all()) or bool((total > 1e-3).any()):
            return f"step_terms adds up to {total.tolist()}; logarithms of probabilities are finite and not above 0."
        if not terms.log_probs.requires_grad and any(p.requires_grad for p in scorer.trainable().parameters()):
            return "step_terms has no gradient; compute it outside of torch.no_grad."
    return None


def gradients_reach_the_weights(subject: Subject) -> str | None:
    """Weights that `trainable` says are trained get gradients of `log_likelihood`, and a step along them raises it."""
    scorer, (codes, draws) = _scorer(subject), _given(subject)
    trained = [p for p in scorer.trainable().parameters() if p.requires_grad]
    if not trained:
        return "no weight of trainable requires gradients; let those do that alignment trains."
    prompts = [subject.prompts[0]] * 3
    before = _score(scorer, prompts, codes, draws).mean()
    if not before.requires_grad:
        return "log_likelihood has no gradient; compute it outside of torch.no_grad, from the weights of trainable."
    gradients = torch.autograd.grad(before, trained, allow_unused=True)
    before = before.detach()
    squared = sum(float(found.double().square().sum()) for found in gradients if found is not None)
    if squared == 0.0:
        return "the gradient of log_likelihood by the weights of trainable is 0; compute it from these weights."
    rate = min(1.0, 1e-2 * max(1.0, abs(float(before))) / squared)  # raises it by about a hundredth
    with torch.no_grad():
        for parameter, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                parameter.add_(rate * gradient)
    if float(_score(scorer, prompts, codes, draws).detach().mean()) == float(before):
        return "log_likelihood stays the same when the weights change; score under the weights of now."
    return None


def a_copy_has_its_own_weights(subject: Subject) -> str | None:
    """`copy` scores and is set as its original, which does not change with it."""
    scorer, (codes, draws) = _scorer(subject), _given(subject)
    other = scorer.copy(torch.float32)
    prompts = [subject.prompts[0]] * 3
    before = _score(scorer, prompts, codes, draws).detach()
    if not torch.allclose(_score(other, prompts, codes, draws).detach(), before, rtol=1e-4, atol=1e-3):
        return "a copy in the same number format scores otherwise; copy all weights."
    assert isinstance(scorer, Generator) and isinstance(other, Generator)
    if dict(other.settings) != dict(scorer.settings):
        return "a copy has other settings; copy them too."
    with torch.no_grad():
        for parameter in other.trainable().parameters():
            parameter.mul_(1.5).add_(0.01)
    if not torch.equal(_score(scorer, prompts, codes, draws).detach(), before):
        return "other weights of a copy change what the original scores; copy the weights, and not what holds them."
    return None


def saving_writes_a_folder(subject: Subject, folder: Path) -> str | None:
    """`save` writes files into the folder that it is told."""
    _scorer(subject).save(folder)
    if not folder.is_dir() or not any(one.is_file() for one in folder.rglob("*")):
        return "save wrote no file into the folder; write the weights and what loading needs."
    return None


def _scorer(subject: Subject) -> Scorer:
    assert isinstance(subject.generator, Scorer)
    return subject.generator.copy(torch.float32)


def _given(subject: Subject) -> tuple[Tensor, Draws]:
    """Codes (3, N) that the generator drew, and draws for them."""
    return subject.expected[-1], Draws(subject.seeds, _COUNT)


def _score(scorer: Scorer, prompts: list[str], codes: Tensor, draws: Draws) -> Tensor:
    return scorer.log_likelihood(prompts, codes.clone(), draws)
