"""Training of the small zero-shot verifier from scratch, on clean renderings only.

Dense supervision: a sequence holds the picture once, then a description of the scene and several yes/no questions
(`packing.py`).

The eye learns first, alone and fast (`eye.py`): a linear head reads off each image row what stands at its patch. A
language model in front of an untrained eye would look at noise for its first tens of thousands of pictures.
"""

import torch
from transformers import LlavaOnevisionForConditionalGeneration

from imagecot import launch, peers
from imagecot.training.output import open_output
from imagecot.training.scratch import train_from_scratch
from imagecot.training.state import seed_all
from imagecot.verifiers import load_verifier
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.verifiers.loading import trained
from imagecot.watch import SILENT, Watch
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.training.answering import Answering, Weights
from imagecot.worlds.drawn.training.eye import Seeing, Shown
from imagecot.worlds.drawn.training.packing import Packer, new_tokenizer
from imagecot.worlds.drawn.training.student import new_student, save
from imagecot.worlds.drawn.training.verifier_recipe import VerifierRecipe
from imagecot.worlds.drawn.training.verifier_scores import accuracy

__all__ = ["VerifierRecipe", "train_verifier"]


def train_verifier(recipe: VerifierRecipe, *, watch: Watch = SILENT) -> LlavaOnevisionForConditionalGeneration:
    """Train from scratch and write model and tokenizer to `recipe.output`; an interrupted run is resumed."""
    output = open_output(recipe, files={"data": None})
    if output.finished:
        verifier = load_verifier(recipe.output, dtype=torch.float32)
        assert isinstance(verifier, LlavaOnevisionVerifier)
        model = trained(verifier).model
        assert isinstance(model, LlavaOnevisionForConditionalGeneration)
        return model
    processes = launch.processes(on_cpu=True)
    with peers.first():
        pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
        held_out = Pool(recipe.data, recipe.held_out, recipe.held_out_seed, watch=watch)
    tokenizer = new_tokenizer()
    seed_all(recipe.optimization.seed)
    student = new_student(recipe, tokenizer)
    grid = recipe.vision.image_size // recipe.vision.patch_size
    shown, packer = Shown(pool, grid), Packer(tokenizer, recipe.text_tokens, grid**2 + 1)
    weights = Weights(recipe.answer_weight, recipe.patch_weight)
    language = student.model.model.language_model.requires_grad_(False)
    seeing = Seeing(student, shown, recipe.eye)
    train_from_scratch(seeing, student, recipe.eye, output, title="eye", stage="eye", watch=watch)
    language.requires_grad_(True)
    train_from_scratch(
        Answering(student, student.reader(packer, recipe.compile), packer, shown, recipe.optimization, weights),
        student,
        recipe.optimization,
        output,
        title=recipe.kind,
        score=lambda: accuracy(student, student.reader(packer), packer, held_out, recipe.held_out),
        watch=watch,
    )
    with peers.first():
        if processes.is_main_process:
            save(student.model, tokenizer, recipe.output)
            output.finish()
    return student.model
