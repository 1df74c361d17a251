"""Training of a Show-o generator from scratch: masked image codes given a caption (MaskGIT's objective, as in Show-o).

The codes of the whole pool are computed once. While training, the rows of the codes share a part per bit
(`SharedBits`).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot import launch, peers
from imagecot.contracts.devices import sent
from imagecot.contracts.generator import Generator
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.values import JSON
from imagecot.files import write_folder
from imagecot.generators.masked.masks import random_mask
from imagecot.generators.settings import write_defaults
from imagecot.generators.showo import MagvitV2, Prompting, Showo, ShowoConfig, ShowoGenerator
from imagecot.generators.showo.model import omni_attention_mask
from imagecot.generators.showo.shared_bits import SharedBits
from imagecot.geneval.prompts import TASKS
from imagecot.recipe_fields import RECIPE, Count, Few, Flag, Name, Place, Seed, Share, Sizes, Weight, sizes_of
from imagecot.training.loop import Part
from imagecot.training.optimization import Optimization, batch_indices, step_generator
from imagecot.training.output import Output, digest_of, open_output
from imagecot.training.scratch import Losses, train_from_scratch
from imagecot.training.state import seed_all
from imagecot.training.tracking import ReportTo
from imagecot.watch import SILENT, Watch
from imagecot.weights import find_weights, load_into, load_state_dict, save_checkpoint
from imagecot.worlds.drawn.captions import caption, held_out_prompts, with_colors
from imagecot.worlds.drawn.dataset import Example, Pool
from imagecot.worlds.drawn.detector import PictogramDetector, load_detector
from imagecot.worlds.drawn.text import END_OF_TEXT, build_tokenizer, known_words
from imagecot.worlds.drawn.training.pool_codes import pool_codes

# What the training sets itself in the configuration of a model; for a check of the rest, numbers as good as any.
_GIVEN: Sizes = {"codebook_size": 64, "num_vq_tokens": 64, "llm_vocab_size": 300, "vq_model": "", "llm_model_path": ""}


def _config(sizes: Sizes) -> ShowoConfig:
    given = [name for name in sizes if name in _GIVEN]
    if given:
        raise ValueError(f"the training sets {given[0]} itself")
    return ShowoConfig.from_dict(_GIVEN | sizes)


class GeneratorRecipe(BaseModel):
    """A recipe of `imagecot train generator`."""

    model_config = RECIPE

    kind: Literal["generator"] = "generator"
    output: Place
    report_to: ReportTo = []
    start_from: Place | None = None
    tokenizer: Place
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 1
    model: Annotated[Sizes, AfterValidator(sizes_of(ShowoConfig, _config))]
    text_length: Few = 18
    steps: Few = 18
    guidance_scale: Weight = 1.75
    caption_dropout: Share = 0.1
    prompts_per_task: Few = 16
    compile: Flag = False
    vq_model: Name = "tiny-magvitv2"
    optimization: Optimization


def encode_pool(tokenizer: MagvitV2, pool: Pool, cache: Path, *, watch: Watch = SILENT) -> Tensor:
    """The codes (len(pool), N) int16 of all pictures, kept in `cache`; see `pool_codes`."""
    shape = (tokenizer.config.num_codes, tokenizer.config.codebook_size)
    return pool_codes(tokenizer, tokenizer.codes, shape, pool, cache, watch=watch)


def scene_caption(example: Example, rng: random.Random) -> str:
    """A caption of an example; half of them also name the colours that its requirement leaves open."""
    if rng.random() < 0.5:
        return caption(example.metadata, rng)
    return caption(with_colors(example.metadata, example.scene), rng, plain=0)


@torch.no_grad()
def task_scores(generator: Generator, detector: PictogramDetector, per_task: int, seed: int = 0) -> dict[str, float]:
    """GenEval score per task and overall of one picture for each of the first `per_task` held-out prompts a task."""
    prompts = held_out_prompts(per_task)
    paths = finish(generator, generator.start([m.prompt for m in prompts], path_seeds(seed, len(prompts))))
    verdicts = detector.judge(generator.preview(paths).cpu(), prompts)
    scores = {
        task: sum(v.correct for v, m in zip(verdicts, prompts, strict=True) if m.tag == task)
        / max(1, sum(m.tag == task for m in prompts))
        for task in TASKS
    }
    return {**scores, "overall": sum(scores.values()) / len(scores)}


class _Denoising(nn.Module):
    """The loss of masked codes given a caption, all pictures weighing the same.

    A mean over all masked codes would leave the second half of the decoding, where objects are finished, a fourteenth
    of the gradient, and they stay half-formed.
    """

    def __init__(self, trained: SharedBits, scenes: "_Scenes", recipe: GeneratorRecipe) -> None:
        super().__init__()
        self.trained, self.scenes = trained, scenes
        self.kind = torch.bfloat16 if recipe.optimization.bf16 else torch.float32
        self.trunk = torch.compile(self._trunk) if recipe.compile else self._trunk

    def forward(self, part: Part) -> Losses:
        """The losses of a part."""
        texts, codes, mask = (sent(one, self.trained.model.device) for one in self.scenes.at(part))
        prompting = self.scenes.prompting
        image = prompting.image_block(prompting.image_ids(codes.masked_fill(mask, -1)))
        ids = torch.cat([texts, image], 1)
        allowed = omni_attention_mask(ids, prompting.pad_id, prompting.soi_id, prompting.eoi_id)
        attention = torch.zeros(allowed.shape, device=ids.device).masked_fill(~allowed, -1e4)
        hidden = self.trunk(ids, attention)[:, texts.shape[1] + 1 : -1]
        if ids.device.type != "cpu":  # which would wait to be told how many are masked
            each = F.cross_entropy(
                self.trained.code_logits(hidden).float().flatten(0, 1), codes.flatten(), reduction="none"
            )
            return {"loss": (each.view_as(mask) * mask / mask.sum(1, keepdim=True)).sum() / len(mask)}
        hidden = hidden[mask]
        each = F.cross_entropy(self.trained.code_logits(hidden).float(), codes[mask], reduction="none")
        share = (1 / mask.sum(1, keepdim=True)).expand_as(mask)[mask] / len(mask)
        return {"loss": (each * share).sum()}

    def _trunk(self, ids: Tensor, attention: Tensor) -> Tensor:
        # A residual stream in bf16 saves autocast's casts before every layer: a sixth of the time of a step.
        embedded = self.trained.embed(ids).to(self.kind)
        states: Tensor = self.trained.model.showo.model(inputs_embeds=embedded, attention_mask=attention.to(self.kind))
        return states


@dataclass(frozen=True)
class _Scenes:
    """What a training shows: captions, and codes (P, N) of the pictures of a pool."""

    recipe: GeneratorRecipe
    pool: Pool
    codes: Tensor
    prompting: Prompting

    def at(self, part: Part) -> tuple[Tensor, Tensor, Tensor]:
        """Ids of captions (B, L), codes (B, N) of pictures, and which of them are masked, of a part."""
        opt, width, pad = self.recipe.optimization, self.recipe.text_length, self.prompting.pad_id
        indices = batch_indices(len(self.pool), opt, part.number)
        draw, rng = step_generator(opt.seed, part.number, 1), random.Random(f"{opt.seed}:{part.number}")
        drop = self.recipe.caption_dropout
        captions = ["" if rng.random() < drop else scene_caption(self.pool[i], rng) for i in indices]
        codes = self.codes[indices].long()
        rows = [self.prompting.text_prefix(caption) for caption in captions]
        texts = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        return texts, codes, random_mask(codes.shape, draw)


def train_generator(recipe: GeneratorRecipe, *, watch: Watch = SILENT) -> Showo:
    """Train from scratch and write the averaged weights to `recipe.output`; an interrupted run is resumed."""
    output = _output(recipe)
    if output.finished:
        return Showo.from_pretrained(recipe.output)
    image_tokenizer = MagvitV2.from_pretrained(recipe.tokenizer, dtype=torch.float32)
    processes = launch.processes()
    with peers.first():
        pool = Pool(recipe.data, recipe.examples, recipe.data_seed, watch=watch)
        codes = encode_pool(image_tokenizer, pool, output.prepare(), watch=watch)
    prompting = _prompting(recipe, image_tokenizer)
    seed_all(recipe.optimization.seed)
    trained = _untrained(recipe, prompting.config, image_tokenizer)
    train_from_scratch(
        _Denoising(trained, _Scenes(recipe, pool, codes, prompting), recipe),
        trained,
        recipe.optimization,
        output,
        title=recipe.kind,
        on_cpu=False,
        score=_scored(recipe, trained, image_tokenizer, prompting),
        watch=watch,
    )
    model = trained.folded()
    with peers.first():
        if processes.is_main_process:
            save_generator(model, prompting, recipe, recipe.output)
            output.finish()
    return model


def _prompting(recipe: GeneratorRecipe, image_tokenizer: MagvitV2) -> Prompting:
    """How the text and the pictures of a new generator become its tokens."""
    text = build_tokenizer()
    given: Sizes = {
        "codebook_size": image_tokenizer.config.codebook_size,
        "num_vq_tokens": image_tokenizer.config.num_codes,
        "llm_vocab_size": text.get_vocab_size(),
        "vq_model": recipe.vq_model,
        "llm_model_path": "",
    }
    end = text.token_to_id(END_OF_TEXT)
    assert end is not None
    return Prompting(text, ShowoConfig.from_dict(given | recipe.model), end, end)


def _untrained(recipe: GeneratorRecipe, config: ShowoConfig, image_tokenizer: MagvitV2) -> SharedBits:
    """A generator with random weights, or with those that the recipe starts from."""
    model = Showo(config)
    if recipe.start_from:
        load_into(model, load_state_dict(recipe.start_from, None, torch.float32), recipe.start_from)
    trained = SharedBits(model, image_tokenizer.quantize.embedding)
    if recipe.start_from:
        nn.init.zeros_(trained.embedding)  # what is loaded holds the parts per bit already
    # In bf16 on a CPU plain attention is a quarter faster than the fused kernel, whose backward pass is slow.
    model.showo.model.fused = torch.cuda.is_available()
    return trained


def _scored(
    recipe: GeneratorRecipe, trained: SharedBits, image_tokenizer: MagvitV2, prompting: Prompting
) -> Callable[[], Mapping[str, float]]:
    """What scores the generator as it is."""

    def score() -> Mapping[str, float]:
        model = trained.folded()
        drawer = ShowoGenerator(
            model, image_tokenizer.to(model.device), prompting, steps=recipe.steps, guidance_scale=recipe.guidance_scale
        )
        return task_scores(drawer, load_detector(), recipe.prompts_per_task)

    return score


def _output(recipe: GeneratorRecipe) -> Output:
    files: dict[str, JSON] = {"data": None, "tokenizer": digest_of(find_weights(recipe.tokenizer))}
    if recipe.start_from:
        start = recipe.start_from
        files["start_from"] = digest_of([start] if start.is_file() else find_weights(start))
    return open_output(recipe, files=files)


def save_generator(model: Showo, prompting: Prompting, recipe: GeneratorRecipe, folder: Path) -> None:
    """Write a checkpoint folder: weights, configuration with the known words, text tokenizer, decoding defaults."""
    write_folder(folder, prompting.save_pretrained)
    save_checkpoint(folder, model.config.to_dict() | {"known_words": known_words()}, model.state_dict())
    decoding = {"steps": recipe.steps, "guidance_scale": recipe.guidance_scale, "temperature": 1.0}
    write_defaults(folder, decoding)
