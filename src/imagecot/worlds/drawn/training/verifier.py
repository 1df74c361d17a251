"""Training of the small zero-shot verifier from scratch, on clean renderings only.

Dense supervision: a sequence holds the picture once, then a description of the scene and several yes/no
questions, each of which attends to the picture and to itself only. So one pass over the picture teaches as
much as many conversations would.

The eye learns first, alone and fast: a linear head reads off each image row what stands at its patch. A
language model in front of an untrained eye would look at noise for its first tens of thousands of pictures.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from imagecot.contracts.questions import ORM
from imagecot.contracts.verifier import Verifier
from imagecot.errors import first_line
from imagecot.files import write_folder
from imagecot.geneval.prompts import COLORS, TASKS
from imagecot.precision import has_bfloat16
from imagecot.recipe_fields import RECIPE, Count, Few, Flag, Layers, Name, Place, Positive, Seed, Weight, Width
from imagecot.training.loop import Losses, Optimization, batch_indices, fit, step_generator
from imagecot.training.output import open_output
from imagecot.verifiers import load_verifier
from imagecot.verifiers.chat import CHAT_ASK, CHAT_START, IMAGE_TOKEN, turn
from imagecot.verifiers.tokens import DESCRIBE, END, build_tokenizer
from imagecot.verifiers.vision import encode
from imagecot.worlds.drawn.captions import caption, random_requirement
from imagecot.worlds.drawn.dataset import Pool
from imagecot.worlds.drawn.questions import describe, draw_questions
from imagecot.worlds.drawn.scenes import KINDS, SIZE, Scene
from imagecot.worlds.drawn.training.tokenizer import to_tensor

IGNORE = -100
# Words for what is wrong with a picture: verifiers that are fine-tuned from this one write them.
_REASONS = (
    "no, there is no red apple. the cup is not below it.",
    "No: the image should show three cups but there are only two, the chair is missing",
    "the apple is green instead of red; it should be right of the cup",
    "more than one, fewer than four, too many, five six seven eight nine ten zero",
    "what is shown is unclear, blurry or incomplete, and its color and shape are wrong",
)


class VisionSizes(BaseModel):
    """The eye: a SigLIP of these sizes, of pictures of the drawn world."""

    model_config = RECIPE

    image_size: Annotated[int, Field(strict=True, ge=SIZE, le=SIZE)] = SIZE
    patch_size: Annotated[int, Field(strict=True, ge=1, le=SIZE)]
    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Few
    hidden_act: Name = "gelu_pytorch_tanh"
    layer_norm_eps: Positive = 1e-6


class TextSizes(BaseModel):
    """The language model: a Qwen2 of these sizes."""

    model_config = RECIPE

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Few
    num_key_value_heads: Few
    max_position_embeddings: Count = 32768
    hidden_act: Name = "silu"
    rms_norm_eps: Positive = 1e-6


class VerifierRecipe(BaseModel):
    """A recipe of `imagecot train verifier`: sizes of the two transformers, data and optimisation."""

    model_config = RECIPE

    output: Place
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 2
    held_out: Count = 500
    held_out_seed: Seed = 9002
    vision: VisionSizes
    text: TextSizes
    text_tokens: Annotated[int, Field(strict=True, ge=40, le=10_000)] = 126
    answer_weight: Weight = 1.0
    patch_weight: Weight = 0.5
    compile: Flag = False
    eye: Optimization
    optimization: Optimization

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        if SIZE % self.vision.patch_size:
            raise ValueError(f"vision.patch_size must divide {SIZE}, the size of the drawn world's pictures")
        if self.text.hidden_size % (2 * self.text.num_attention_heads):
            raise ValueError("twice text.num_attention_heads must divide text.hidden_size")
        if self.text.num_attention_heads % self.text.num_key_value_heads:
            raise ValueError("text.num_key_value_heads must divide text.num_attention_heads")
        try:
            with torch.device("meta"):
                LlavaOnevisionForConditionalGeneration(_config(self, 300, 299, 298))
        except Exception as error:  # a model of impossible sizes raises whatever its layers raise
            raise ValueError(f"no model has these sizes ({first_line(error)})") from None
        return self


@dataclass(frozen=True)
class Packed:
    """Texts behind pictures, (B, T) each: block 0 pads, target IGNORE and task -1 where nothing is asked."""

    ids: Tensor
    block: Tensor
    position: Tensor
    target: Tensor
    task: Tensor


def new_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the drawn world: its captions, descriptions and answers."""
    rng = random.Random(0)
    corpus = [caption(random_requirement(rng), rng) for _ in range(20_000)]
    corpus += ["yes", "no", "Yes", "No", " yes", " no", "one apple: red apple, two", *_REASONS] * 5
    return build_tokenizer(corpus)


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a token of the vocabulary."""
    return tokenizer.get_vocab()[token]


def _config(recipe: VerifierRecipe, vocabulary: int, image: int, pad: int, end: int | None = None) -> Any:
    """The configuration of a LLaVA-OneVision with so many tokens, of which those of image, padding and end are told."""
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(vision_use_head=False, **recipe.vision.model_dump()),
        text_config=Qwen2Config(
            vocab_size=vocabulary,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
            **recipe.text.model_dump(),
        ),
        image_token_index=image,
        video_token_index=pad,
        tie_word_embeddings=True,
        vision_aspect_ratio="single",
        image_grid_pinpoints=[[recipe.vision.image_size] * 2],
    )


def new_model(recipe: VerifierRecipe, tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionForConditionalGeneration:
    """A LLaVA-OneVision of the recipe's sizes with random weights, the unused layer norm frozen."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = _config(recipe, len(tokenizer), token_id(tokenizer, IMAGE_TOKEN), pad, end)
    torch.manual_seed(recipe.optimization.seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    model.set_attn_implementation("eager")  # with a mask, twice as fast to train on a CPU as the fused kernel
    model.model.vision_tower.post_layernorm.requires_grad_(False)
    for layer in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
        nn.init.xavier_uniform_(layer.weight)  # the usual 0.02 would hide the picture from the language model
    # Reads off each patch what stands there while training; it is dropped when the model is saved.
    model.patch_head = nn.Linear(recipe.text.hidden_size, len(KINDS) + len(COLORS) + 3)
    return model


class Packer:
    """Turns scenes into `Packed` texts of `length` tokens that follow a picture of `offset` tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int, offset: int) -> None:
        self.tokenizer, self.length, self.offset = tokenizer, length, offset
        self.yes, self.no = (token_id(tokenizer, word) for word in ("yes", "no"))
        self.lead = len(self._ids([DESCRIBE + CHAT_ASK])[0])

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False).input_ids

    def __call__(self, scenes: Sequence[Scene], rngs: Sequence[random.Random]) -> Packed:
        """Describe each scene and fill the rest of its row with questions."""
        rows, texts, answers = [], [], []
        for row, (scene, rng) in enumerate(zip(scenes, rngs, strict=True)):
            rows.append((row, -1))
            texts.append(DESCRIBE + CHAT_ASK + describe(scene, rng) + END)
            answers.append(False)
            for metadata, answer in draw_questions(scene, self.length // 11, rng):
                rows.append((row, TASKS.index(metadata["tag"])))
                texts.append(turn(ORM, caption(metadata, rng)))
                answers.append(answer)
        shape = (len(scenes), self.length)
        ids, target = [self.tokenizer.pad_token_id] * (shape[0] * shape[1]), [IGNORE] * (shape[0] * shape[1])
        block, position, task = [0] * len(ids), [self.offset] * len(ids), [-1] * len(ids)
        used, number = [0] * len(scenes), [0] * len(scenes)
        for (row, kind), piece, answer in zip(rows, self._ids(texts), answers, strict=True):
            n, at = len(piece), row * self.length + used[row]
            if used[row] + n > self.length:
                continue
            used[row] += n
            number[row] += 1
            ids[at : at + n] = piece
            block[at : at + n] = [number[row]] * n
            position[at : at + n] = range(self.offset, self.offset + n)
            if kind < 0:
                target[at + self.lead - 1 : at + n - 1] = piece[self.lead :]
            else:
                target[at + n - 1] = self.yes if answer else self.no
                task[at + n - 1] = kind
        return Packed(*(torch.tensor(v).view(shape) for v in (ids, block, position, target, task)))


def attention_mask(block: Tensor, offset: int) -> Tensor:
    """Who sees whom, added to scores, (B, 1, L, L) with L = offset + T: 0 or the least float.

    Attention is causal, and a text sees the picture and its own block.
    """
    number = F.pad(block, (offset, 0), value=-1)
    causal = torch.ones(number.shape[1], number.shape[1], dtype=torch.bool, device=block.device).tril()
    same = (number[:, None, :] == number[:, :, None]) | (number == -1)[:, None, :]
    return torch.zeros(same.shape).masked_fill(~(same & causal), torch.finfo(torch.float32).min)[:, None]


def hidden_states(
    model: Any, pixels: Tensor, ids: Tensor, position: Tensor, mask: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Read texts behind pixels (B, 3, S, S) in [-1, 1]: their states (B, T, D), the image rows (B, R, D)."""
    language = model.model.language_model
    image = encode(model, pixels)
    prefix = language.embed_tokens(start).expand(len(ids), -1, -1)
    # In the type of the matrix products: sums of the residual stream are half the memory traffic.
    rows = torch.cat([prefix.to(image.dtype), image, language.embed_tokens(ids).to(image.dtype)], 1)
    offset = rows.shape[1] - ids.shape[1]
    before = torch.arange(offset, device=ids.device).expand(len(ids), -1)
    out = language(
        inputs_embeds=rows,
        attention_mask={"full_attention": mask},
        position_ids=torch.cat([before, position], 1),
        use_cache=False,
    )
    return out.last_hidden_state[:, offset:], image


def patch_targets(scenes: Sequence[Scene], grid: int) -> Tensor:
    """What stands at each patch: kind, colour (0 = nothing) and whether it holds a centre, (B, grid², 3)."""
    targets = torch.zeros(len(scenes), grid, grid, 3, dtype=torch.long)
    side = SIZE / grid
    for target, scene in zip(targets, scenes, strict=True):
        for item, box in zip(scene.items, scene.boxes, strict=True):
            x0, y0, x1, y1 = (round(v / side) for v in box)
            label = torch.tensor([KINDS.index(item.kind) + 1, COLORS.index(item.color) + 1, 0])
            target[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)] = label
        for item in scene.items:
            target[min(int(item.y / side), grid - 1), min(int(item.x / side), grid - 1), 2] = 1
    return targets.flatten(1, 2)


def patch_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of `patch_targets` (B, P, 3) under logits (B, P, kinds + colours + 3)."""
    predicted = predicted.float().flatten(0, 1)
    kinds, colors, centre = predicted.split([len(KINDS) + 1, len(COLORS) + 1, 1], 1)
    kind, color, middle = target.flatten(0, 1).unbind(1)
    weights = [torch.ones(n) for n in (kinds.shape[1], colors.shape[1])]
    for weight in weights:
        weight[0] = 0.25  # most patches show nothing
    return (
        F.cross_entropy(kinds, kind, weights[0])
        + F.cross_entropy(colors, color, weights[1])
        + F.binary_cross_entropy_with_logits(centre[:, 0], middle.float())
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, blur, relight and roughen images (B, 3, H, W) in [0, 1] a little, each in its own way.

    Generated pictures are a little blurry and off in colour; a judge of clean renderings must not care.
    """
    n, _, height, width = images.shape
    draw = torch.rand(n, 6, generator=generator)
    shifts = torch.randint(-2, 3, (n, 2), generator=generator)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    rows = torch.arange(height) + 2 + shifts[:, :1]
    columns = torch.arange(width) + 2 + shifts[:, 1:]
    index = torch.arange(n)
    images = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    sigma = (draw[:, 0] * 2.4 - 1.2).clamp_min(0.05)  # half of the pictures stay sharp
    taps = torch.exp(-torch.arange(-2, 3).square() / (2 * sigma[:, None].square()))
    taps = taps / taps.sum(1, keepdim=True)
    flat = images.reshape(1, n * 3, height, width)
    kernel = taps.repeat_interleave(3, 0)
    flat = F.conv2d(F.pad(flat, (2, 2, 0, 0), mode="replicate"), kernel[:, None, None, :], groups=n * 3)
    flat = F.conv2d(F.pad(flat, (0, 0, 2, 2), mode="replicate"), kernel[:, None, :, None], groups=n * 3)
    images = flat.reshape(n, 3, height, width)
    scale, shift = 0.88 + 0.24 * draw[:, 1], 0.1 * draw[:, 2] - 0.05
    noise = torch.randn(images.shape, generator=generator) * (0.05 * draw[:, 3])[:, None, None, None]
    return ((images - 0.5) * scale[:, None, None, None] + 0.5 + shift[:, None, None, None] + noise).clamp(0, 1)


def losses(model: Any, states: Tensor, packed: Packed, answer_weight: float) -> Losses:
    """Mean negative log-likelihood of the descriptions' tokens and of the answers, from states (B, T, D)."""
    chosen = packed.target != IGNORE
    logits = model.lm_head(states[chosen]).float()
    each = F.cross_entropy(logits, packed.target[chosen], reduction="none")
    asked = packed.task[chosen] >= 0
    description, answer = each[~asked].mean(), each[asked].mean()
    return {"loss": description + answer_weight * answer, "description": description, "answer": answer}


def balanced_accuracy(right: Tensor, answer: Tensor) -> float:
    """The mean of the share of right answers among yes and among no; both (N,) bool."""
    return float((right[answer].float().mean() + right[~answer].float().mean()) / 2)


@torch.no_grad()
def accuracy(model: Any, packer: Packer, pool: Pool, count: int, batch: int = 50) -> dict[str, float]:
    """Balanced accuracy by task, and their mean, of fresh questions about a pool's first `count` examples."""
    start = torch.tensor(packer._ids([CHAT_START]))
    right: list[Tensor] = []
    answer: list[Tensor] = []
    task: list[Tensor] = []
    for first in range(0, count, batch):
        indices = range(first, min(first + batch, count))
        rngs = [random.Random(f"held out:{i}") for i in indices]
        packed = packer([pool[i].scene for i in indices], rngs)
        pixels = to_tensor(pool.images(indices)) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            mask = attention_mask(packed.block, packer.offset)
            states, _ = hidden_states(model, pixels, packed.ids, packed.position, mask, start)
            logits = model.lm_head(states[packed.task >= 0]).float()
        yes = packed.target[packed.task >= 0] == packer.yes
        right.append((logits[:, packer.yes] > logits[:, packer.no]) == yes)
        answer.append(yes)
        task.append(packed.task[packed.task >= 0])
    return by_task(torch.cat(right), torch.cat(answer), torch.cat(task))


def measure(verifier: Verifier, pool: Pool, questions: int = 6, batch: int = 120) -> dict[str, float]:
    """Balanced accuracy by task, and their mean, of `ask` with fresh questions about every example of a pool."""
    rows: list[tuple[int, str, int, bool]] = []
    for i in range(len(pool)):
        rng = random.Random(f"measured:{i}")
        for metadata, answer in draw_questions(pool[i].scene, questions, rng):
            rows.append((i, caption(metadata, rng), TASKS.index(metadata["tag"]), answer))
    said = []
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        images = to_tensor(pool.images([i for i, *_ in part]))
        said.append(verifier.ask(images, [text for _, text, *_ in part], ORM) > 0.5)
    answers = torch.tensor([answer for *_, answer in rows])
    return by_task(torch.cat(said) == answers, answers, torch.tensor([task for *_, task, _ in rows]))


def by_task(right: Tensor, answer: Tensor, task: Tensor) -> dict[str, float]:
    """Balanced accuracy by task, and their mean, of (N,) questions."""
    scores = {name: balanced_accuracy(right[task == k], answer[task == k]) for k, name in enumerate(TASKS)}
    return {**scores, "mean": sum(scores.values()) / len(scores)}


def train_verifier(recipe: VerifierRecipe) -> LlavaOnevisionForConditionalGeneration:
    """Train from scratch and write model and tokenizer to `recipe.output`; an interrupted run is resumed."""
    opt = recipe.optimization
    output = open_output(recipe.output, "verifier", recipe, files={"data": None})
    if output.finished:
        return load_verifier(recipe.output, dtype=torch.float32).model  # type: ignore[attr-defined]
    pool = Pool(recipe.data, recipe.examples, recipe.data_seed)
    held_out = Pool(recipe.data, recipe.held_out, recipe.held_out_seed)
    tokenizer = new_tokenizer()
    model = new_model(recipe, tokenizer)
    start = torch.tensor([tokenizer(CHAT_START, add_special_tokens=False).input_ids])
    grid = recipe.vision.image_size // recipe.vision.patch_size
    offset = start.numel() + grid**2 + 1
    packer = Packer(tokenizer, recipe.text_tokens, offset)
    forward = torch.compile(hidden_states) if recipe.compile else hidden_states

    def seen(opt: Optimization, step: int) -> tuple[list[int], Tensor]:
        indices = batch_indices(len(pool), opt, step)
        images = augment(to_tensor(pool.images(indices)), step_generator(opt.seed, step, 1))
        return indices, images * 2 - 1

    def eye_loss(model: Any, step: int) -> Losses:
        indices, pixels = seen(recipe.eye, step)
        rows = model.patch_head(encode(model, pixels)[:, :-1])
        return {"loss": patch_loss(rows, patch_targets([pool[i].scene for i in indices], grid))}

    def loss(model: Any, step: int) -> Losses:
        indices, pixels = seen(opt, step)
        rngs = [random.Random(f"{opt.seed}:{step}:{row}") for row in range(len(indices))]
        scenes = [pool[i].scene for i in indices]
        packed = packer(scenes, rngs)
        mask = attention_mask(packed.block, offset)
        states, image = forward(model, pixels, packed.ids, packed.position, mask, start)
        patches = patch_loss(model.patch_head(image[:, :-1]), patch_targets(scenes, grid))
        named = losses(model, states, packed, recipe.answer_weight)
        return {**named, "loss": named["loss"] + recipe.patch_weight * patches, "patches": patches}

    def evaluate(model: nn.Module) -> dict[str, float]:
        return accuracy(model, packer, held_out, recipe.held_out)

    fit(model, eye_loss, recipe.eye, output.prepare() / "eye", title="eye", claim=output.claim)
    fit(model, loss, opt, output.training, evaluate=evaluate, title="verifier", claim=output.claim)
    save(model, tokenizer, recipe.output)
    output.finish()
    return model


def save(model: LlavaOnevisionForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a checkpoint in Hugging Face form, weights in float16."""
    model = copy.deepcopy(model).half()
    del model.patch_head

    def write(partial: Path) -> None:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)

    write_folder(folder, write)
