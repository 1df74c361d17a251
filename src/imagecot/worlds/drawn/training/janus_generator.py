"""Training of a Janus from scratch on the drawn world: what it draws, and beside it what it sees.

It learns from every code of every image (teacher forcing), given a caption; a share of captions is blanked as guidance
blanks them. Some captions also say where the objects stand: what they say is all in the image, so that the model learns
to read before it has learnt to arrange. With `understanding`, every step also answers questions about some pictures.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import JanusForConditionalGeneration, JanusVQVAE, PreTrainedTokenizerFast

from imagecot import launch, peers
from imagecot.contracts.values import JSON
from imagecot.files import write_folder, write_text
from imagecot.generators.janus.config import JanusParts
from imagecot.generators.janus.generator import JanusGenerator
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.janus.transformer import JanusTransformer
from imagecot.recipe_fields import RECIPE, Batch, Count, Few, Flag, Place, Positive, Seed, Share, Weight
from imagecot.search_config import SEARCH_CONFIG
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices
from imagecot.training.output import Output, digest_of, open_output
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch
from imagecot.weights import find_weights, load_into, load_state_dict
from imagecot.worlds.drawn.captions import caption, placed, with_colors
from imagecot.worlds.drawn.dataset import Example, Pool
from imagecot.worlds.drawn.detector import load_detector
from imagecot.worlds.drawn.scenes import SIZE
from imagecot.worlds.drawn.text import known_words
from imagecot.worlds.drawn.training.answering import Answering, Weights
from imagecot.worlds.drawn.training.eye import Seeing, Shown
from imagecot.worlds.drawn.training.generator import task_scores
from imagecot.worlds.drawn.training.janus_answers import JanusStudent, janus_packer
from imagecot.worlds.drawn.training.janus_student import JanusSizes, SharedSigns, new_janus
from imagecot.worlds.drawn.training.janus_text import janus_processor, janus_tokenizer
from imagecot.worlds.drawn.training.janus_tokenizer import codes_of, load_image_tokenizer
from imagecot.worlds.drawn.training.pool_codes import pool_codes
from imagecot.worlds.drawn.training.verifier_scores import accuracy

_HERE = "PROMPT"  # where a prompt stands in a chat


class Understanding(BaseModel):
    """What a step learns of seeing beside what it learns of drawing.

    Of each of `batch_size` pictures it learns what stands at each patch and, where there are text_tokens, a description
    and yes/no questions that take so many.
    """

    model_config = RECIPE

    batch_size: Batch = 32
    text_tokens: Annotated[int, Field(strict=True, ge=40, le=10_000)] | None = None
    answer_weight: Weight = 3.0
    patch_weight: Weight = 0.3
    held_out: Count = 300
    held_out_seed: Seed = 9002


class JanusGeneratorRecipe(BaseModel):
    """A recipe of `imagecot train janus-generator`."""

    model_config = RECIPE

    kind: Literal["janus-generator"] = "janus-generator"
    output: Place
    report_to: ReportTo = []
    start_from: Place | None = Field(None, description="a checkpoint to train on instead of starting from scratch")
    tokenizer: Place
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 1
    model: JanusSizes
    caption_dropout: Share = 0.1
    placed: Share = Field(0.3, description="of the captions that say where objects stand")
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = 2.0
    temperature: Positive = 1.0
    understanding: Understanding | None = None
    compile: Flag = False
    prompts_per_task: Few = 16
    optimization: Optimization


def encode_pool(tokenizer: JanusVQVAE, pool: Pool, cache: Path, *, watch: Watch = SILENT) -> Tensor:
    """The codes (len(pool), N) int16 of all pictures, kept in `cache`; see `pool_codes`."""
    shape = (tokenizer.config.num_patches**2, tokenizer.config.num_embeddings)
    return pool_codes(tokenizer, lambda images: codes_of(tokenizer, images * 2 - 1), shape, pool, cache, watch=watch)


def scene_caption(example: Example, rng: random.Random, share: float) -> str:
    """A caption of an example: a `share` says where objects stand, half of the others all colours."""
    chance = rng.random()
    if chance < share:
        return placed(example.scene, rng)
    if chance < (1 + share) / 2:
        return caption(example.metadata, rng)
    return caption(with_colors(example.metadata, example.scene), rng, plain=0)


@dataclass(frozen=True)
class _Scenes:
    """What a training shows: captions, and codes (P, N) of the pictures of a pool."""

    recipe: JanusGeneratorRecipe
    pool: Pool
    codes: Tensor

    def at(self, part: Part) -> tuple[list[str], list[bool], Tensor]:
        """Captions of a part, which of them are blanked, and codes (B, N)."""
        opt, drop = self.recipe.optimization, self.recipe.caption_dropout
        indices = batch_indices(len(self.pool), opt, part.number)
        rng = random.Random(f"{opt.seed}:{part.number}")
        captions = [scene_caption(self.pool[i], rng, self.recipe.placed) for i in indices]
        return captions, [rng.random() < drop for _ in indices], self.codes[indices].long()


class _Drawing(nn.Module):
    """The loss of all codes given a caption, and of what is seen in pictures beside it."""

    def __init__(
        self, trained: SharedSigns, prompting: JanusPrompting, scenes: _Scenes, text: PreTrainedTokenizerFast
    ) -> None:
        super().__init__()
        self.trained, self.prompting, self.scenes = trained, prompting, scenes
        self.transformer = JanusTransformer(trained.model, prompting)
        self.frame = prompting.text(_HERE)  # to fill in a template costs a tenth of a step
        self.seeing = _seeing(trained, scenes, text)

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        captions, blank, codes = self.scenes.at(part)
        rows = [[*self.prompting.tokenizer(self.frame.replace(_HERE, c)).input_ids] for c in captions]
        rows = [self.prompting.against(ids) if drop else ids for ids, drop in zip(rows, blank, strict=True)]
        states = self.transformer.states_of(rows, codes)
        logits = self.trained.code_logits(states).float()
        drawing = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        seen: Losses = self.seeing(part) if self.seeing is not None else {}
        seeing = seen.pop("loss", torch.zeros(()))
        return {"loss": drawing + seeing, "drawing": drawing, **seen}


def _seeing(trained: SharedSigns, scenes: _Scenes, text: PreTrainedTokenizerFast) -> nn.Module | None:
    """What is learnt of seeing; None where a recipe asks for nothing of it."""
    asked, opt = scenes.recipe.understanding, scenes.recipe.optimization
    if asked is None:
        return None
    side = JanusParts.of(trained.model.config).vq.num_patches
    student, shown = JanusStudent(trained.model), Shown(scenes.pool, side)
    batches = opt.model_copy(update={"batch_size": asked.batch_size})
    if asked.text_tokens is None:
        return Seeing(student, shown, batches)
    packer = janus_packer(text, asked.text_tokens, side**2)
    weights = Weights(asked.answer_weight, asked.patch_weight)
    return Answering(student, student.reader(packer), packer, shown, batches, weights)


def _answers(seeing: nn.Module | None, recipe: JanusGeneratorRecipe, watch: Watch) -> dict[str, float]:
    """The shares of yes/no questions about held-out scenes that are answered rightly, where answers are learnt."""
    asked = recipe.understanding
    if asked is None or not isinstance(seeing, Answering):
        return {}
    pool = Pool(recipe.data, asked.held_out, asked.held_out_seed, watch=watch)
    found = accuracy(seeing.student, seeing.read, seeing.packer, pool, asked.held_out)
    return {f"answers/{task}": share for task, share in found.items()}


def train_janus_generator(recipe: JanusGeneratorRecipe, *, watch: Watch = SILENT) -> JanusForConditionalGeneration:
    """Train and write the averaged weights as a checkpoint to `recipe.output`; an interrupted run is resumed."""
    output = _output(recipe)
    if output.finished:
        return JanusForConditionalGeneration.from_pretrained(recipe.output, dtype=torch.float32)
    image_tokenizer = load_image_tokenizer(recipe.tokenizer)
    processes = launch.processes(on_cpu=True)
    with peers.first():
        pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
        codes = encode_pool(image_tokenizer, pool, output.prepare(), watch=watch)
    seed_all(recipe.optimization.seed)
    text = janus_tokenizer()
    model = new_janus(recipe.model, image_tokenizer, text)
    if recipe.start_from:
        load_into(model, _state(recipe.start_from, model), recipe.start_from)
        model.tie_weights()
    prompting = JanusPrompting.of(text, model.config)
    trained = SharedSigns(model)
    model.set_attn_implementation("eager")  # faster on a CPU than the fused kernel, whose backward pass is slow
    for unseen in () if recipe.understanding else (model.model.vision_model, model.model.aligner):
        unseen.requires_grad_(False)
    if recipe.compile:
        model.model.language_model.compile(dynamic=True)

    def drawer() -> JanusGenerator:
        return JanusGenerator(trained.folded(), prompting, recipe.guidance_scale, recipe.temperature)

    losses = _Drawing(trained, prompting, _Scenes(recipe, pool, codes), text)

    def score() -> Mapping[str, float]:
        drawn = task_scores(drawer(), load_detector(), recipe.prompts_per_task)
        return {**drawn, **_answers(losses.seeing, recipe, watch)}

    train_from_scratch(losses, losses, recipe.optimization, output, title=recipe.kind, score=score, watch=watch)
    generator = drawer()
    with peers.first():
        if processes.is_main_process:
            save(generator, text, recipe.output)
            output.finish()
    drawn = generator.model
    assert isinstance(drawn, JanusForConditionalGeneration)  # as `trained` has it
    return drawn


def save(generator: JanusGenerator, text: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a checkpoint folder: weights, the words that it knows, tokenizer, processor, decoding defaults."""
    processor = janus_processor(text, SIZE, SIZE // JanusParts.of(generator.model.config).vq.num_patches)
    assert isinstance(generator.model, JanusForConditionalGeneration)  # which is trained
    generator.model.config.known_words = known_words()
    write_folder(folder, processor.save_pretrained)
    generator.save(folder)
    write_text(folder / SEARCH_CONFIG, json.dumps({"world": "drawn"}) + "\n")


def _state(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """The weights of a checkpoint, with those that are tied."""
    state = load_state_dict(folder, None, torch.float32)
    tied = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    return state | {name: state[other] for name, other in tied.items() if name in model.state_dict()}


def _output(recipe: JanusGeneratorRecipe) -> Output:
    files: dict[str, JSON] = {"data": None, "tokenizer": digest_of(find_weights(recipe.tokenizer))}
    if recipe.start_from:
        files["start_from"] = digest_of(find_weights(recipe.start_from))
    return open_output(recipe, files=files)
