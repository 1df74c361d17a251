"""A small random aMUSEd as a folder of diffusers, for tests; they skip where diffusers is not installed."""

import json
import string
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

pytest.importorskip("diffusers", reason="aMUSEd needs the extra imagecot[amused]")
from diffusers import UVit2DModel, VQModel

STEPS = 4
CODES, MASK, LENGTH = 32, 39, 40
_PIECES = ("a p", "ap p", "app l", "appl e</w>", "r e", "re d</w>", "c a", "ca t</w>")
UVIT = {
    **{"hidden_size": 32, "cond_embed_dim": 8, "micro_cond_encode_dim": 4, "micro_cond_embed_dim": 20},
    **{"encoder_hidden_size": 16, "vocab_size": 40, "codebook_size": CODES, "in_channels": 16},
    **{"block_out_channels": 16, "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "intermediate_size": 32, "sample_size": 4},
}
VQ = {
    **{"block_out_channels": (8, 16), "latent_channels": 4, "num_vq_embeddings": CODES, "norm_num_groups": 4},
    **{"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2},
    **{"mid_block_add_attention": False, "lookup_from_codebook": True},
}


def write_amused(folder: Path, seed: int = 0, *, schedule: str = "cosine", vq: dict | None = None, **sizes) -> Path:
    """Write a pipeline of 4 x 4 codes on 8 x 8 pixels; 4 steps, guidance 3; `sizes` of the U-ViT, `vq` of the VQ."""
    torch.manual_seed(seed)
    uvit = UVit2DModel(**{**UVIT, **sizes})
    _drawn(uvit).save_pretrained(folder / "transformer")
    _drawn(VQModel(**{**VQ, **(vq or {})})).save_pretrained(folder / "vqvae")
    entries = _write_tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=entries, hidden_size=uvit.config.encoder_hidden_size, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=uvit.config.cond_embed_dim,
        bos_token_id=entries - 2, eos_token_id=entries - 1, pad_token_id=entries - 1,
    )  # fmt: skip
    _drawn(CLIPTextModelWithProjection(text)).save_pretrained(folder / "text_encoder")
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "AmusedScheduler", "mask_token_id": MASK, "masking_schedule": schedule}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    index = {
        "_class_name": "AmusedPipeline",
        "scheduler": ["diffusers", "AmusedScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "UVit2DModel"],
        "vqvae": ["diffusers", "VQModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "generation_config.json").write_text(json.dumps({"steps": STEPS, "guidance_scale": 3.0}))
    return folder


def _drawn(model: nn.Module) -> nn.Module:
    """The model with weights of which everything depends on everything."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "norm" not in name:
            nn.init.normal_(parameter, std=0.8 / parameter[0].numel() ** 0.5 if "embed" not in name else 0.5)
    return model.eval()


def _write_tokenizer(folder: Path) -> int:
    """Write CLIP's tokenizer of letters and a few words; how many entries it has."""
    folder.mkdir()
    letters = string.ascii_lowercase + string.digits + string.punctuation
    entries = [*letters, *(f"{c}</w>" for c in letters), *(piece.replace(" ", "") for piece in _PIECES)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({entry: k for k, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_PIECES, ""]))
    end = "<|endoftext|>"
    names = {"bos_token": entries[-2], "eos_token": end, "unk_token": end, "pad_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(entries)
