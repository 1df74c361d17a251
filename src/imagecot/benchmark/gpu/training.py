"""How many images a second trainings of the released sizes take, and what computing activations again saves."""

import gc
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from imagecot.alignment.policy import checkpoint_activations
from imagecot.benchmark.gpu.models import JUDGE, MODELS, judge
from imagecot.benchmark.gpu.notes import Found, Notes
from imagecot.benchmark.measure import PROMPT
from imagecot.benchmark.timing import in_turns
from imagecot.contracts.generator import Generator
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.scorer import Draws, Scorer
from imagecot.generators.bench import Benched
from imagecot.reward_models.finetune import answer_logits, answer_loss
from imagecot.verifiers.chat_verifier import ChatVerifier

_TRAINED = ("Show-o 1.45B", "Janus-Pro 1B")
_REPEATS = 3


def run(notes: Notes) -> None:
    """Gradients of pairs of images, and of answers of the judge; weights and gradients are bfloat16."""
    for name in _TRAINED:
        for again in (False, True):
            how = "activations computed again" if again else "activations kept"
            notes.add(f"DPO of {name}, {how}", partial(_pairs, name, again, notes), needs=8)
            _give_up(notes)
    for again in (False, True):
        how = "activations computed again" if again else "activations kept"
        notes.add(f"a reward model of {JUDGE}, {how}", partial(_answers, again, notes), needs=15)
        _give_up(notes)


def _pairs(name: str, again: bool, notes: Notes) -> Found:
    """The gradient of the margin of pairs: a chosen and a rejected image each."""
    generator: Generator = MODELS[name](notes.device, notes.small)
    assert isinstance(generator, Benched) and isinstance(generator, Scorer)
    pairs, canvas = (1 if notes.small else 8), generator.canvas
    codes = torch.randint(canvas.codes, (2 * pairs, canvas.positions), device=notes.device)
    seeds = path_seeds(0, pairs)
    draws = Draws(torch.cat([seeds, seeds]), 1)
    with generator.bench().training() as module:
        if again:
            checkpoint_activations(module.train(), name)

        def work() -> None:
            chosen, rejected = generator.log_likelihood([PROMPT] * len(codes), codes, draws).chunk(2)
            (-nn.functional.logsigmoid(0.1 * (chosen - rejected))).mean().backward()
            module.zero_grad(set_to_none=True)

        return _rate(work, len(codes), module)


def _answers(again: bool, notes: Notes) -> Found:
    """The gradient of answers to a question."""
    verifier = judge(notes.device, notes.small)
    assert isinstance(verifier, ChatVerifier)
    images = torch.rand(1 if notes.small else 4, 3, 256, 256, device=notes.device)
    model: nn.Module = verifier.model
    if again:
        checkpoint_activations(model.train(), "the judge")
    ids, mask = verifier.layout([verifier.text(ORM, PROMPT)] * len(images))
    target = torch.full((len(images), 1), verifier.words[0], device=notes.device)

    def work() -> None:
        answer_loss(answer_logits(verifier, images, ids, mask, 1), target).backward()
        model.zero_grad(set_to_none=True)

    return _rate(work, len(images), model)


def _rate(work: Callable[[], None], images: int, module: nn.Module) -> Found:
    with torch.enable_grad():
        took = statistics.median(in_turns({"": work}, _REPEATS)[""])
    weights = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    return {"images": images, "seconds_per_gradient": took, "images_per_second": images / took, "weights": weights}


def _give_up(notes: Notes) -> None:
    gc.collect()
    if not notes.small:
        torch.cuda.empty_cache()
