"""Training of a Show-o generator from scratch: masked image codes given a caption (MaskGIT's objective, as in Show-o).

The codes of the whole pool are computed once. While training, the rows of the codes share a part per bit
(`SharedBits`).
"""

import json
import random
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds
from imagecot.files import write_folder, write_text
from imagecot.generators.masked.masks import random_mask
from imagecot.generators.showo import MagvitV2, Prompting, Showo, ShowoConfig, ShowoGenerator
from imagecot.generators.showo.model import omni_attention_mask
from imagecot.generators.showo.shared_bits import SharedBits
from imagecot.geneval.prompts import TASKS
from imagecot.precision import has_bfloat16
from imagecot.recipe_fields import RECIPE, Count, Few, Flag, Name, Place, Seed, Share, Weight, sizes_of
from imagecot.training.loop import Losses, Optimization, batch_indices, fit, step_generator
from imagecot.training.output import Output, digest_of, open_output
from imagecot.training.parts import check_codes, digest, fingerprint, in_parts
from imagecot.weights import find_weights, load_into, load_state_dict, save_checkpoint
from imagecot.worlds.drawn.captions import caption, held_out_prompts, with_colors
from imagecot.worlds.drawn.dataset import Example, Pool
from imagecot.worlds.drawn.detector import PictogramDetector, load_detector
from imagecot.worlds.drawn.text import END_OF_TEXT, build_tokenizer, known_words
from imagecot.worlds.drawn.training.tokenizer import to_tensor

# What the training sets itself in the configuration of a model; for a check of the rest, numbers as good as any.
_GIVEN = {"codebook_size": 64, "num_vq_tokens": 64, "llm_vocab_size": 300, "vq_model": "", "llm_model_path": ""}


def _config(sizes: dict[str, Any]) -> ShowoConfig:
    given = [name for name in sizes if name in _GIVEN]
    if given:
        raise ValueError(f"the training sets {given[0]} itself")
    return ShowoConfig.from_dict(_GIVEN | sizes)


class GeneratorRecipe(BaseModel):
    """A recipe of `imagecot train generator`."""

    model_config = RECIPE

    output: Place
    start_from: Place | None = None
    tokenizer: Place
    data: Place = Path("runs/data")
    examples: Count = 60_000
    data_seed: Seed = 1
    model: Annotated[dict[str, Any], AfterValidator(sizes_of(ShowoConfig, _config))]
    text_length: Few = 18
    steps: Few = 18
    guidance_scale: Weight = 1.75
    caption_dropout: Share = 0.1
    prompts_per_task: Few = 16
    compile: Flag = False
    vq_model: Name = "tiny-magvitv2"
    optimization: Optimization


@torch.no_grad()
def encode_pool(tokenizer: MagvitV2, pool: Pool, cache: Path, batch: int = 200) -> Tensor:
    """The codes (len(pool), N) int16 of all pictures; what was computed is kept in `cache`, by tokenizer and pool."""

    def compute(first: int, last: int) -> Tensor:
        images = to_tensor(pool.images(range(first, last)))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=has_bfloat16()):
            return tokenizer.codes(images).to(torch.int16)

    folder = cache / f"codes-{digest(fingerprint(tokenizer), pool.folder.name, str(len(pool)))}"
    codes = in_parts(folder, len(pool), compute, "encoding pictures", batch)
    check_codes(codes, tokenizer.config.num_codes, tokenizer.config.codebook_size, folder)
    return codes


def scene_caption(example: Example, rng: random.Random) -> str:
    """A caption of an example; half of them also name the colours that its requirement leaves open."""
    if rng.random() < 0.5:
        return caption(example.metadata, rng)
    return caption(with_colors(example.metadata, example.scene), rng, plain=0)


@torch.no_grad()
def task_scores(
    generator: ShowoGenerator, detector: PictogramDetector, per_task: int, seed: int = 0
) -> dict[str, float]:
    """GenEval score per task and overall of one picture for each of the first `per_task` held-out prompts a task."""
    prompts = held_out_prompts(per_task)
    paths = finish(generator, generator.start([m["prompt"] for m in prompts], path_seeds(seed, len(prompts))))
    verdicts = detector.judge(generator.preview(paths), prompts)
    scores = {
        task: sum(v.correct for v, m in zip(verdicts, prompts, strict=True) if m["tag"] == task)
        / max(1, sum(m["tag"] == task for m in prompts))
        for task in TASKS
    }
    return {**scores, "overall": sum(scores.values()) / len(scores)}


def train_generator(recipe: GeneratorRecipe) -> Showo:
    """Train from scratch and write the averaged weights to `recipe.output`; an interrupted run is resumed."""
    opt = recipe.optimization
    output = _output(recipe)
    if output.finished:
        return Showo.from_pretrained(recipe.output)
    image_tokenizer = MagvitV2.from_pretrained(recipe.tokenizer, dtype=torch.float32)
    pool = Pool(recipe.data, recipe.examples, recipe.data_seed)
    all_codes = encode_pool(image_tokenizer, pool, output.prepare())
    text = build_tokenizer()
    config = ShowoConfig(
        codebook_size=image_tokenizer.config.codebook_size,
        num_vq_tokens=image_tokenizer.config.num_codes,
        llm_vocab_size=text.get_vocab_size(),
        vq_model=recipe.vq_model,
        llm_model_path="",
        **recipe.model,
    )
    end = text.token_to_id(END_OF_TEXT)
    assert end is not None
    prompting = Prompting(text, config, end, end)
    torch.manual_seed(opt.seed)
    model = Showo(config)
    if recipe.start_from:
        load_into(model, load_state_dict(recipe.start_from, None, torch.float32), recipe.start_from)
    trained = SharedBits(model, image_tokenizer.quantize.embedding)
    if recipe.start_from:
        nn.init.zeros_(trained.embedding)  # what is loaded holds the parts per bit already
    # In bf16 on a CPU plain attention is a quarter faster than the fused kernel, whose backward pass is slow.
    model.showo.set_attn_implementation("eager")
    width = recipe.text_length

    def trunk(ids: Tensor, attention: Tensor) -> Tensor:
        # A residual stream in bf16 saves autocast's casts before every layer: a sixth of the time of a step.
        kind = torch.bfloat16 if opt.bf16 else torch.float32
        embedded = trained.embed(ids).to(kind)
        return model.showo.model(
            inputs_embeds=embedded, attention_mask=attention.to(kind), use_cache=False
        ).last_hidden_state

    forward = torch.compile(trunk) if recipe.compile else trunk

    def loss(_: nn.Module, step: int) -> Losses:
        indices = batch_indices(len(pool), opt, step)
        draw = step_generator(opt.seed, step, 1)
        rng = random.Random(f"{opt.seed}:{step}")
        examples = [pool[i] for i in indices]
        codes = all_codes[indices].long()
        captions = ["" if rng.random() < recipe.caption_dropout else scene_caption(e, rng) for e in examples]
        mask = random_mask(codes.shape, draw)
        rows = [prompting.text_prefix(c) for c in captions]
        texts = torch.tensor([[prompting.pad_id] * (width - len(row)) + row for row in rows])
        image = prompting.image_block(prompting.image_ids(codes.masked_fill(mask, -1)))
        ids = torch.cat([texts, image], 1)
        allowed = omni_attention_mask(ids, prompting.pad_id, prompting.soi_id, prompting.eoi_id)
        attention = torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)
        hidden = forward(ids, attention)[:, width + 1 : -1][mask]
        each = F.cross_entropy(trained.code_logits(hidden).float(), codes[mask], reduction="none")
        # Every picture weighs the same. A mean over all masked codes leaves the second half of the decoding, where
        # objects are finished, a fourteenth of the gradient, and they stay half-formed.
        share = (1 / mask.sum(1, keepdim=True)).expand_as(mask)[mask] / len(mask)
        return {"loss": (each * share).sum()}

    def evaluate(averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, SharedBits)
        drawer = ShowoGenerator(
            averaged.folded(), image_tokenizer, prompting, steps=recipe.steps, guidance_scale=recipe.guidance_scale
        )
        return task_scores(drawer, load_detector(), recipe.prompts_per_task)

    fit(trained, loss, opt, output.training, evaluate=evaluate, title="generator", claim=output.claim)
    model = trained.folded()
    save_generator(model, prompting, recipe, recipe.output)
    output.finish()
    return model


def _output(recipe: GeneratorRecipe) -> Output:
    files: dict[str, str | None] = {"data": None, "tokenizer": digest_of(find_weights(recipe.tokenizer))}
    if recipe.start_from:
        start = recipe.start_from
        files["start_from"] = digest_of([start] if start.is_file() else find_weights(start))
    return open_output(recipe.output, "generator", recipe, files=files)


def save_generator(model: Showo, prompting: Prompting, recipe: GeneratorRecipe, folder: Path) -> None:
    """Write a checkpoint folder: weights, configuration with the known words, text tokenizer, decoding defaults."""
    write_folder(folder, prompting.save_pretrained)
    save_checkpoint(folder, model.config.to_dict() | {"known_words": known_words()}, model.state_dict())
    decoding = {"steps": recipe.steps, "guidance_scale": recipe.guidance_scale, "temperature": 1.0}
    write_text(folder / "generation_config.json", json.dumps(decoding, indent=2) + "\n")
