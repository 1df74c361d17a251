"""The shipped zero-shot verifier on clean pictures."""

import random

import numpy as np
import pytest
import torch

from imagecot import models
from imagecot.contracts.questions import ORM
from imagecot.verifiers import load_verifier
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.worlds.drawn.captions import caption
from imagecot.worlds.drawn.dataset import example
from imagecot.worlds.drawn.questions import draw_questions
from imagecot.worlds.drawn.scenes import draw
from imagecot.worlds.drawn.training.tokenizer import to_tensor


@pytest.fixture(scope="module")
def verifier() -> LlavaOnevisionVerifier:
    torch.set_num_threads(1)
    return load_verifier("tiny-zero-shot")


def test_it_is_shipped() -> None:
    assert "tiny-zero-shot" in models.shipped("verifier")


def test_it_judges_scenes_that_it_never_saw(verifier: LlavaOnevisionVerifier) -> None:
    pictures, prompts, answers = [], [], []
    for index in range(50):
        scene, rng = example(9003, index).scene, random.Random(index)
        for metadata, answer in draw_questions(scene, 4, rng):
            pictures.append(np.asarray(draw(scene)))
            prompts.append(caption(metadata, rng))
            answers.append(answer)
    said = verifier.ask(to_tensor(np.stack(pictures)), prompts, ORM) > 0.5
    right = said == torch.tensor(answers)
    assert right.float().mean() > 0.8
    assert verifier.usage.tokens_judged < len(prompts) * 85


def test_half_precision_says_the_same(verifier: LlavaOnevisionVerifier) -> None:
    images = to_tensor(np.stack([np.asarray(draw(example(9003, i).scene)) for i in range(10)]))
    exact = verifier.ask(images, ["a photo of a cup"], ORM)
    half = load_verifier("tiny-zero-shot", dtype=torch.bfloat16).ask(images, ["a photo of a cup"], ORM)
    torch.testing.assert_close(half, exact, atol=0.1, rtol=0)
