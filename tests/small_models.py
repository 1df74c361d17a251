"""Small models for the tests of search and command line: folders with weights, and stand-ins that count."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
    T5Config,
    T5EncoderModel,
)
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from imagecot.contracts.generator import Canvas
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import Question
from imagecot.contracts.randomness import Stream, uniforms
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.generators.llamagen import VQ16, LlamaGen, LlamaGenConfig, VQ16Config
from imagecot.generators.showo import Prompting, Showo
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


def write_showo(folder: Path, **sizes: int) -> Path:
    """Write a Show-o with random weights that draws and judges: 16 codes, a tokenizer that has yes and no, 4 steps.

    sizes  of the transformer (`num_hidden_layers`, `max_position_embeddings`, ...)
    """
    text = Tokenizer.from_file(str(DATA / "showo" / "tokenizer.json"))
    text.add_tokens([AddedToken(word, normalized=False) for word in (" yes", "yes", "Yes", " no", "no", "No")])
    small = {"llm_vocab_size": 310, "max_text_len": 64, "max_position_embeddings": 2048, **sizes}
    config = dataclasses.replace(CONFIG, vq_model="vq", **small)
    torch.manual_seed(5)
    model = Showo(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tiny_magvitv2().save_pretrained(folder / "vq")
    end = text.token_to_id("<|endoftext|>")
    Prompting(text, config, end, end).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"steps": STEPS, "guidance_scale": 1.75}))
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


# The special tokens of Janus-Pro, in the order of their ids here: from 256, behind the bytes.
JANUS_TOKENS = (
    *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<image_placeholder>", "<begin_of_image>"),
    *("<end_of_image>", "<|User|>", "<|Assistant|>"),
)
# What Janus-Pro's own template makes of the messages that are sent here.
JANUS_TEMPLATE = (
    "{%for message in messages%}{%if message['role']|lower=='user'%}<|User|>: {%else%}<|Assistant|>: {%endif%}"
    "{%for content in message['content']%}{%if content['type']=='image'%}"
    "{%if not loop.first%}{{'\n'}}{%endif%}<image_placeholder>{%if not loop.last%}{{'\n'}}{%endif%}"
    "{%else%}{{content['text']}}{%endif%}{%endfor%}"
    "{%if message['role']|lower=='user'%}{{'\n\n'}}{%else%}<｜end▁of▁sentence｜>{%endif%}"
    "{%endfor%}{%if add_generation_prompt%}<|Assistant|>:{%endif%}"
)


def janus_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with the special tokens of Janus-Pro."""
    tokenizer = Tokenizer(models.BPE({c: k for k, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*JANUS_TOKENS])
    words = (" yes", "yes", "Yes", " no", "no", "No")
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in words])
    bos, eos, pad, image, boi, eoi = JANUS_TOKENS[:6]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": image, "boi_token": boi, "eoi_token": eoi},
    )


def write_janus(folder: Path, *, seed: int = 0, side: int = 4, guidance_scale: float = 2.0, **sizes: int) -> Path:
    """Write a Janus with random weights that draws and judges: side x side codes of 8 pixels each.

    sizes  of the transformer (`num_hidden_layers`, `num_key_value_heads`, ...) and `num_embeddings`, the codes
    """
    torch.manual_seed(seed)
    codes = sizes.pop("num_embeddings", 64)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"max_position_embeddings": 512, **sizes}
    width, tokenizer = text["hidden_size"], janus_tokenizer()
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in zip(("bos", "eos", "pad"), JANUS_TOKENS[:3], strict=True)
    }
    special = {f"{name}_token_id": token for name, token in ids.items()}
    config = JanusConfig(
        text_config=LlamaConfig(vocab_size=272, **text, **special),
        vision_config=JanusVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=8 * side,
            patch_size=8,
            mlp_ratio=2.0,
            projection_dim=width,
            num_image_tokens=side * side,
        ),
        vq_config=JanusVQVAEConfig(
            num_embeddings=codes,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1, 1, 1, 1],
            num_res_blocks=1,
            projection_dim=width,
            image_token_embed_dim=width,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=False,
    )
    model = JanusForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "vqmodel" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    boi = tokenizer.convert_tokens_to_ids("<begin_of_image>")
    model.generation_config = GenerationConfig(
        guidance_scale=guidance_scale, temperature=1.0, generation_kwargs={"boi_token_id": boi}, **special
    )
    model.save_pretrained(folder)
    seeing = JanusImageProcessorPil(
        size={"height": 8 * side, "width": 8 * side}, image_mean=[0.5] * 3, image_std=[0.5] * 3, min_size=8
    )
    JanusProcessor(
        seeing, tokenizer, chat_template=JANUS_TEMPLATE, use_default_system_prompt=True, num_image_tokens=side * side
    ).save_pretrained(folder)
    seeing.save_pretrained(folder)
    return folder


def write_llamagen(folder: Path, *, seed: int = 0, side: int = 3, guidance_scale: float = 2.0, **sizes: int) -> Path:
    """Write a LlamaGen with random weights, and its image tokenizer and text encoder inside: side x side codes.

    sizes  of the transformer (`n_layer`, `n_kv_head`, `vocab_size`, ...)
    """
    torch.manual_seed(seed)
    small = {"dim": 32, "n_layer": 2, "n_head": 4, "multiple_of": 16, "vocab_size": 48, "cls_token_num": 96}
    own = {"caption_dim": 16, "block_size": side * side, "vq_model": "vq_model", "text_encoder": "text_encoder"}
    config = LlamaGenConfig.from_dict({**small, **own, **sizes})
    model, image_tokenizer = (
        LlamaGen(config),
        VQ16(
            VQ16Config(
                codebook_size=config.vocab_size,
                ch=32,
                num_res_blocks=1,
                encoder_ch_mult=(1, 1, 1),
                decoder_ch_mult=(1, 1, 1),
                z_channels=16,
            )
        ),
    )
    text = T5EncoderModel(
        T5Config(vocab_size=257, d_model=config.caption_dim, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    )
    for part in (model, text):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    image_tokenizer.save_pretrained(folder / "vq_model")
    text.save_pretrained(folder / "text_encoder")
    t5_tokenizer().save_pretrained(folder / "text_encoder")
    (folder / "generation_config.json").write_text(json.dumps({"guidance_scale": guidance_scale, "top_k": 40}))
    return folder


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes that ends a text as T5 does."""
    tokenizer = Tokenizer(models.BPE({c: k for k, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 256)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")


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


def models_named(folder: Path) -> list[str]:
    """Write a small generator and a verifier, and return the options of a command that name them."""
    generator, verifier = write_generator(folder / "generator"), write_verifier(folder / "verifier")
    return ["--generator", str(generator), "--verifier", str(verifier), "--search", "best-of-n"]
