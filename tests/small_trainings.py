"""Small DPO trainings for tests that damage what they read and write."""

import json

import torch
from PIL import Image
from safetensors.torch import load_file

from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.images import to_pictures

SETTINGS = {
    "draws": 1, "steps": 2, "batch_size": 2, "held_out": 0, "pictures": 0, "evaluate_every": 2, "save_every": 2,
    "lora": {"r": 2, "alpha": 4}, "learning_rate": 1e-3,
}  # fmt: skip


def picture(seed: int) -> Image.Image:
    torch.manual_seed(seed)
    return to_pictures(torch.rand(1, 3, 16, 16))[0]


def pairs_in(folder):
    """Two pairs of the paper's file."""
    for name in ("a", "b", "c", "d"):
        picture(ord(name)).save(folder / f"{name}.png")
    return lines(folder, ("a photo of a red apple", "a.png", "b.png"), ("a red bench", "c.png", "d.png"))


def lines(folder, *rows):
    file = folder / "dpo.jsonl"
    text = "".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) + "\n" for row in rows)
    file.write_text(text)
    return file


def recipe(base, data, output, **more) -> DpoRecipe:
    top = {key: more.pop(key) for key in ("reference",) if key in more}
    return DpoRecipe(output=output, base=str(base), data=data, training=SETTINGS | more, **top)


def undisturbed(base, folder):
    """What a training of two steps leaves that nobody disturbs; its data are beside it."""
    train_dpo(recipe(base, pairs_in(folder), folder / "out"))
    return folder / "out"


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(one, other) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
