"""The recorded small LlamaGen and VQ-16; their weights are drawn anew from the seeds that the recorder used."""

import json

import torch
from torch import Tensor

import recorded as recordings
from imagecot.generators.llamagen import VQ16, LlamaGen, LlamaGenConfig, VQ16Config

# Scales of matrices over the root of their inputs, by a part of their names.
_GAINS = {"wqkv": 1.4, "wo": 1.0, "w2": 1.0, "w1": 1.2, "w3": 1.2, "cap_proj": 1.3, "output": 1.5, "conv": 1.3}


def facts() -> dict:
    return json.loads((recordings.DATA / "llamagen" / "recorded.json").read_text())


def recorded() -> dict[str, Tensor]:
    return recordings.read("llamagen/recorded")


def drawn(shapes: dict[str, torch.Size], seed: int, norm: float) -> dict[str, Tensor]:
    """Weights by their names and shapes, in their order."""
    generator, weights = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        r = torch.randn(shape, generator=generator)
        gain = next((gain for part, gain in _GAINS.items() if f".{part}" in f".{name}"), 1.3)
        if "norm" in name:
            weights[name] = 1 + norm * r if name.endswith("weight") else norm * r
        elif name.endswith("embedding") or "embeddings" in name:
            weights[name] = r
        else:
            weights[name] = 0.1 * r if name.endswith("bias") else r * (gain / r[0].numel() ** 0.5)
    return weights


def weights(found: dict) -> dict[str, Tensor]:
    model = LlamaGen(LlamaGenConfig(**found["model_args"]))
    return drawn({name: t.shape for name, t in model.state_dict().items()}, found["weight_seed"], 0.25)


def tiny_llamagen(**changed: object) -> LlamaGen:
    """The recorded transformer; with `changed` sizes its weights are still to be loaded."""
    found = facts()
    model = LlamaGen(LlamaGenConfig(**{**found["model_args"], **changed})).eval()
    if not changed:
        model.load_state_dict(weights(found))
    return model


def tiny_vq16(want: dict[str, Tensor]) -> VQ16:
    found = facts()["vq16"]
    model = VQ16(VQ16Config.from_dict({**found["model_args"], **found["encoder_args"]})).eval()
    own = {name.removeprefix("weights."): t for name, t in want.items() if name.startswith("weights.")}
    shapes = {name: t.shape for name, t in model.state_dict().items() if name.startswith(("encoder.", "decoder."))}
    state = {**drawn(shapes, found["weight_seed"], 0.2), **own}
    model.load_state_dict({name: t.half().float() for name, t in state.items()})
    return model
