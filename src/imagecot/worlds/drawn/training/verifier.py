"""Training of the small zero-shot verifier from scratch, on clean renderings only.

Dense supervision: a sequence holds the picture once, then a description of the scene and several yes/no questions
(`packing.py`).

The eye learns first, alone and fast (`eye.py`): a linear head reads off each image row what stands at its patch. A
language model in front of an untrained eye would look at noise for its first tens of thousands of pictures.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaOnevisionForConditionalGeneration

from imagecot import launch
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.output import open_output
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.verifiers import load_verifier
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier
from imagecot.verifiers.vision import encode
from imagecot.watch import SILENT, Watch
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.scenes import Scene
from imagecot.worlds.drawn.training.eye import augment, patch_loss, patch_targets
from imagecot.worlds.drawn.training.packing import IGNORE, Packed, Packer, attention_mask, new_tokenizer
from imagecot.worlds.drawn.training.student import Student, hidden_states, new_student, save
from imagecot.worlds.drawn.training.tokenizer import to_tensor
from imagecot.worlds.drawn.training.verifier_recipe import VerifierRecipe
from imagecot.worlds.drawn.training.verifier_scores import accuracy

__all__ = ["VerifierRecipe", "train_verifier"]


def losses(
    model: LlavaOnevisionForConditionalGeneration, states: Tensor, packed: Packed, answer_weight: float
) -> Losses:
    """Mean negative log-likelihood of the descriptions' tokens and of the answers, from states (B, T, D)."""
    chosen = packed.target != IGNORE
    logits = model.lm_head(states[chosen]).float()
    each = F.cross_entropy(logits, packed.target[chosen], reduction="none")
    asked = packed.task[chosen] >= 0
    description, answer = each[~asked].mean(), each[asked].mean()
    return {"loss": description + answer_weight * answer, "description": description, "answer": answer}


@dataclass(frozen=True)
class _Scenes:
    """The scenes of a training; `grid` patches lie along a side of a picture."""

    pool: Pool
    grid: int

    def at(self, opt: Optimization, part: Part) -> tuple[list[Scene], Tensor]:
        """Scenes of a part and their pictures (B, 3, S, S) in [-1, 1], each roughened in its own way."""
        indices = batch_indices(len(self.pool), opt, part.number)
        images = augment(to_tensor(self.pool.images(indices)), step_generator(opt.seed, part.number, 1))
        return [self.pool[i].scene for i in indices], images * 2 - 1


class _Seeing(nn.Module):
    """The loss of the eye: what stands at each patch."""

    def __init__(self, student: Student, scenes: _Scenes, opt: Optimization) -> None:
        super().__init__()
        self.student, self.scenes, self.opt = student, scenes, opt

    def forward(self, part: Part) -> Losses:
        """The loss of a part."""
        scenes, pixels = self.scenes.at(self.opt, part)
        patches = self.student.patches(encode(self.student.model, pixels))
        return {"loss": patch_loss(patches, patch_targets(scenes, self.scenes.grid))}


class _Answering(nn.Module):
    """The loss of descriptions and answers, and of the patches beside them."""

    def __init__(self, student: Student, scenes: _Scenes, recipe: VerifierRecipe, packer: Packer) -> None:
        super().__init__()
        self.student, self.scenes, self.recipe, self.packer = student, scenes, recipe, packer
        self.read = torch.compile(hidden_states) if recipe.compile else hidden_states

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        recipe, packer, model = self.recipe, self.packer, self.student.model
        scenes, pixels = self.scenes.at(recipe.optimization, part)
        rngs = [random.Random(f"{recipe.optimization.seed}:{part.number}:{row}") for row in range(len(scenes))]
        packed = packer(scenes, rngs)
        mask = attention_mask(packed.block, packer.offset)
        states, image = self.read(model, pixels, packed.ids, packed.position, mask, packer.start)
        patches = patch_loss(self.student.patches(image), patch_targets(scenes, self.scenes.grid))
        named = losses(model, states, packed, recipe.answer_weight)
        return {**named, "loss": named["loss"] + recipe.patch_weight * patches, "patches": patches}


def train_verifier(recipe: VerifierRecipe, *, watch: Watch = SILENT) -> LlavaOnevisionForConditionalGeneration:
    """Train from scratch and write model and tokenizer to `recipe.output`; an interrupted run is resumed."""
    output = open_output(recipe, files={"data": None})
    if output.finished:
        verifier = load_verifier(recipe.output, dtype=torch.float32)
        assert isinstance(verifier, LlavaOnevisionVerifier)
        return verifier.model
    processes = launch.processes(on_cpu=True)
    with processes.main_process_first():
        pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
        held_out = Pool(recipe.data, recipe.held_out, recipe.held_out_seed, watch=watch)
    tokenizer = new_tokenizer()
    seed_all(recipe.optimization.seed)
    student = new_student(recipe, tokenizer)
    grid = recipe.vision.image_size // recipe.vision.patch_size
    scenes, packer = _Scenes(pool, grid), Packer(tokenizer, recipe.text_tokens, grid**2 + 1)
    language = student.model.model.language_model.requires_grad_(False)
    seeing = _Seeing(student, scenes, recipe.eye)
    train_from_scratch(seeing, student, recipe.eye, output, title="eye", stage="eye", watch=watch)
    language.requires_grad_(True)
    train_from_scratch(
        _Answering(student, scenes, recipe, packer),
        student,
        recipe.optimization,
        output,
        title=recipe.kind,
        score=lambda: accuracy(student.model, packer, held_out, recipe.held_out),
        watch=watch,
    )
    if processes.is_main_process:
        save(student.model, tokenizer, recipe.output)
        output.finish()
    processes.wait_for_everyone()
    return student.model
