"""Small models for the tests of search and command line: folders with weights, and stand-ins that count."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import Question
from imagecot.contracts.randomness import Stream, uniforms
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.generators.showo import Showo
from imagecot.weights import load_into
from plain_decoder import CONFIG, DATA, tiny_magvitv2, tiny_prompting, tiny_showo

STEPS = 4


def write_generator(folder: Path) -> Path:
    """Write the recorded tiny Show-o with its image tokenizer inside; 4 steps, guidance 1.75."""
    model = Showo(dataclasses.replace(CONFIG, vq_model="vq", max_text_len=32)).eval()
    load_into(model, tiny_showo().state_dict(), "tiny")
    model.save_pretrained(folder)
    tiny_magvitv2().save_pretrained(folder / "vq")
    tiny_prompting().save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"steps": STEPS, "guidance_scale": 1.75}))
    config = json.loads((folder / "config.json").read_text())
    config["known_words"] = ["a", "photo", "of", "red", "apple"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_verifier(folder: Path) -> Path:
    """Write a LLaVA-OneVision of 28-pixel images with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(
                num_attention_heads=2, image_size=28, patch_size=14, vision_use_head=False, **sizes
            ),
            text_config=Qwen2Config(vocab_size=448, num_attention_heads=4, num_key_value_heads=2, **sizes),
            image_token_index=447,
            video_token_index=446,
        )
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(DATA / "llava" / "tokenizer.json")).save_pretrained(folder)
    return folder


class Brightness:
    """A verifier whose P(yes) is the mean of the image; each answer costs 7 tokens."""

    settings: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        self.usage = Usage()

    def ask(self, images: Tensor, prompts: list[str], question: object, after: object = None) -> Tensor:
        self.usage += Usage(judge_calls=len(images), tokens_judged=7 * len(images))
        return images.mean(dim=(1, 2, 3))

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        return self.ask(images, prompts, question), Conversation(question)


class Flat:
    """A generator of flat 4 x 4 pictures, whose shade is the first random number of the last step."""

    paths_per_pass = 1000
    canvas = Canvas((1, 1), 256, (4, 4))
    settings: ClassVar[dict[str, object]] = {}

    def __init__(self, steps: int = 2, rows_per_path: int = 1) -> None:
        self.steps, self.rows_per_path = steps, rows_per_path
        self.batches: list[int] = []  # paths of each call of advance

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        codes = torch.full((len(seeds), 1), UNDECIDED)
        return Paths(codes, seeds, torch.zeros_like(seeds), 0, self.steps)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        return dataclasses.replace(self.start(prompts, seeds), codes=codes, step=step)

    def advance(self, paths: Paths) -> Paths:
        if paths.finished:
            raise ValueError("the paths are finished")
        self.batches.append(len(paths))
        codes = (uniforms(paths.seeds, paths.step, Stream.CODES, 1) * 256).long()
        return dataclasses.replace(paths, codes=codes, step=paths.step + 1)

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(paths.codes)

    def decode(self, codes: Tensor) -> Tensor:
        return (codes / 255.0)[:, :, None, None].expand(-1, 3, 4, 4)
