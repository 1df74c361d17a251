"""Random weights of the released sizes, made on the device in bfloat16; small ones where there is no GPU.

Texts are read with the tokenizers of the shipped models, whose ids all larger vocabularies hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
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

from imagecot.contracts.generator import Generator
from imagecot.contracts.verifier import Verifier
from imagecot.generators.janus.generator import JanusGenerator
from imagecot.generators.janus.prompting import JanusPrompting
from imagecot.generators.llamagen.config import LlamaGenConfig, VQ16Config
from imagecot.generators.llamagen.generator import LlamaGenGenerator
from imagecot.generators.llamagen.model import LlamaGen
from imagecot.generators.llamagen.text import TextEncoder
from imagecot.generators.llamagen.vq16 import VQ16
from imagecot.generators.showo.bench import CONFIGS
from imagecot.generators.showo.config import MagvitV2Config
from imagecot.generators.showo.generator import ShowoGenerator
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo
from imagecot.generators.showo.prompting import Prompting
from imagecot.hub import CHECKPOINTS
from imagecot.verifiers.llava_onevision import LlavaOnevisionVerifier

Sizes = dict[str, Any]
JUDGE = "LLaVA-OneVision 7B"
_STEPS = 18


@contextmanager
def _made_on(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Make new tensors on a device and in a type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def showo(device: torch.device, small: bool) -> Generator:
    """Show-o of 1.45 billion weights with MAGVIT-v2 of 256 pixels."""
    config = CONFIGS["tiny" if small else "full"]
    with _made_on(device):
        model = Showo(config).to(device).eval()
    with _made_on(device, torch.float32):
        images = MagvitV2(_magvit(small)).to(device).eval()
    prompting = Prompting.from_pretrained(CHECKPOINTS / "tiny", config)
    return ShowoGenerator(model, images, prompting, steps=_STEPS, precision="bfloat16")


def _magvit(small: bool) -> MagvitV2Config:
    return MagvitV2Config.from_pretrained(CHECKPOINTS / "tiny-magvitv2") if small else MagvitV2Config()


def _janus(device: torch.device, small: bool, **text: Any) -> Generator:
    if small:
        text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    width, side = text["hidden_size"], 4 if small else 24
    seeing: Sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2} if small else {}
    drawing: Sizes = {"base_channels": 32, "latent_channels": 32, "num_embeddings": 64} if small else {}
    config = JanusConfig(
        text_config=LlamaConfig(vocab_size=4096 if small else 102_400, max_position_embeddings=16_384, **text),
        vision_config=JanusVisionConfig(
            image_size=16 * side, patch_size=16, projection_dim=width, num_image_tokens=side * side, **seeing
        ),
        vq_config=JanusVQVAEConfig(projection_dim=width, image_token_embed_dim=width, **drawing),
        tie_word_embeddings=False,
    )
    with _made_on(device):
        model = JanusForConditionalGeneration(config).eval()
    nn.Module.to(model, device)
    model.model.vqmodel.float()
    prompting = JanusPrompting.from_pretrained(CHECKPOINTS / "tiny-janus", config)
    return JanusGenerator(model, prompting, precision="bfloat16")


def janus_1b(device: torch.device, small: bool) -> Generator:
    """Janus-Pro 1B: 576 codes of 384 pixels."""
    return _janus(device, small, hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16)


def janus_7b(device: torch.device, small: bool) -> Generator:
    """Janus-Pro 7B."""
    return _janus(
        device, small, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=30, num_attention_heads=32
    )


def llamagen(device: torch.device, small: bool) -> Generator:
    """LlamaGen XL of 256 pixels, with the encoder of Flan-T5 XL."""
    tiny: Sizes = {"dim": 32, "n_layer": 2, "n_head": 4, "caption_dim": 16, "block_size": 16, "vocab_size": 64}
    config = LlamaGenConfig(**tiny) if small else LlamaGenConfig()
    reading: Sizes = {"d_model": config.caption_dim, "num_layers": 24, "d_ff": 5120, "num_heads": 32, "d_kv": 64}
    if small:
        reading |= {"num_layers": 1, "d_ff": 32, "num_heads": 2, "d_kv": 8}
    pixels = VQ16Config(codebook_size=config.vocab_size)
    with _made_on(device):
        model = LlamaGen(config).to(device).eval()
        text = T5EncoderModel(T5Config(vocab_size=32_128, feed_forward_proj="gated-gelu", **reading)).eval()
    nn.Module.to(text, device)
    with _made_on(device, torch.float32):
        images = VQ16(pixels).to(device).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(CHECKPOINTS / "tiny" / "tokenizer.json"))
    encoder = TextEncoder(text, tokenizer, config.cls_token_num)
    return LlamaGenGenerator(model, images, encoder, precision="bfloat16", top_k=min(1000, config.vocab_size))


def judge(device: torch.device, small: bool) -> Verifier:
    """LLaVA-OneVision with SigLIP so400m and Qwen2 7B."""
    eye: Sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16}
    text: Sizes = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28}
    text |= {"num_key_value_heads": 4, "vocab_size": 152_128}
    size, patch = 384, 14
    if small:
        eye |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        text |= {"num_key_value_heads": 2, "vocab_size": 4096}
        size = 28
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(image_size=size, patch_size=patch, vision_use_head=False, **eye),
        text_config=Qwen2Config(**text),
        image_token_index=text["vocab_size"] - 1,
        video_token_index=text["vocab_size"] - 2,
        vision_feature_layer=-1,
    )
    with _made_on(device):
        model = LlavaOnevisionForConditionalGeneration(config).eval()
    nn.Module.to(model, device)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(CHECKPOINTS / "tiny-zero-shot" / "tokenizer.json"))
    return LlavaOnevisionVerifier(model, tokenizer)


MODELS = {
    "Show-o 1.45B": showo,
    "Janus-Pro 1B": janus_1b,
    "LlamaGen XL": llamagen,
    "Janus-Pro 7B": janus_7b,
}
