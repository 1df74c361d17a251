"""Each recipe from scratch, at a small size: it resumes exactly, every weight moves, what it writes loads again."""

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from imagecot.errors import ImagecotError
from imagecot.generators import load_generator
from imagecot.generators.showo import MagvitV2, MagvitV2Config, Showo, ShowoConfig
from imagecot.geneval.prompts import counting_metadata
from imagecot.worlds.drawn import dataset
from imagecot.worlds.drawn.captions import held_out_texts
from imagecot.worlds.drawn.detector import PictogramDetector
from imagecot.worlds.drawn.scenes import Item, Scene
from imagecot.worlds.drawn.training.detector import DetectorRecipe, train_detector
from imagecot.worlds.drawn.training.generator import (
    GeneratorRecipe,
    SharedBits,
    encode_pool,
    random_mask,
    scene_caption,
    train_generator,
)
from imagecot.worlds.drawn.training.tokenizer import (
    TokenizerRecipe,
    edge_loss,
    partly_quantized,
    to_tensor,
    train_tokenizer,
)
from stopping import stopped_behind_state

STEPS = {"batch_size": 4, "learning_rate": 1e-3, "warmup": 2, "bf16": False, "save_every": 2, "evaluate_every": 100}
SMALL_IMAGE_MODEL = {
    "image_size": 64, "patch_size": 4, "channels": 32, "encoder_mult": [1, 1], "decoder_mult": [1, 1],
    "encoder_blocks": [1, 1], "decoder_blocks": [1, 1], "code_bits": 6,
}  # fmt: skip
SMALL_TEXT_MODEL = {
    "max_text_len": 20, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(dataset, "_CHUNK", 20)
    dataset.Pool(tmp_path / "data", 20, seed=1, workers=1)
    return tmp_path / "data"


def tokenizer_recipe(data: Path, output: Path, steps: int) -> TokenizerRecipe:
    optimization = {"steps": steps, **STEPS}
    return TokenizerRecipe(
        output=output, data=data, examples=20, model=SMALL_IMAGE_MODEL, optimization=optimization, soft_steps=2
    )


def generator_recipe(data: Path, output: Path, tokenizer: Path, steps: int) -> GeneratorRecipe:
    return GeneratorRecipe(
        output=output, data=data, tokenizer=tokenizer, examples=20, model=SMALL_TEXT_MODEL, prompts_per_task=1,
        optimization={"steps": steps, "muon": True, **STEPS}, vq_model=str(tokenizer), steps=3,
    )  # fmt: skip


def moved(before: nn.Module, after: nn.Module) -> list[str]:
    old = dict(before.named_parameters())
    return [name for name, parameter in after.named_parameters() if torch.equal(old[name], parameter)]


def curves(folder: Path) -> str:
    return (folder / "training/curves.csv").read_text()


def test_tokenizer_resumes_exactly_and_moves_every_weight(data, tmp_path):
    whole = train_tokenizer(tokenizer_recipe(data, tmp_path / "whole", 6))
    torch.manual_seed(0)
    assert moved(MagvitV2(MagvitV2Config(**SMALL_IMAGE_MODEL)), whole) == []
    with stopped_behind_state(2):
        train_tokenizer(tokenizer_recipe(data, tmp_path / "broken", 6))
    resumed = train_tokenizer(tokenizer_recipe(data, tmp_path / "broken", 6))
    assert moved(whole, resumed) == [name for name, _ in whole.named_parameters()]
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")
    loaded = MagvitV2.from_pretrained(tmp_path / "broken")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded.codes(images), whole.codes(images))


def test_generator_resumes_exactly_moves_every_weight_and_draws(data, tmp_path):
    train_tokenizer(tokenizer_recipe(data, tmp_path / "vq", 1))
    whole = train_generator(generator_recipe(data, tmp_path / "whole", tmp_path / "vq", 6))
    with stopped_behind_state(2):
        train_generator(generator_recipe(data, tmp_path / "broken", tmp_path / "vq", 6))
    resumed = train_generator(generator_recipe(data, tmp_path / "broken", tmp_path / "vq", 6))
    assert moved(whole, resumed) == [name for name, _ in whole.named_parameters()]
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")

    first = train_generator(generator_recipe(data, tmp_path / "first", tmp_path / "vq", 1))
    assert moved(first, whole) == []

    drawer = load_generator(tmp_path / "whole")
    paths = drawer.start(["a photo of a red apple"], torch.tensor([1, 2]))
    while not paths.finished:
        paths = drawer.advance(paths)
    assert drawer.preview(paths).shape == (2, 3, 64, 64) and drawer.steps == 3


def detector_recipe(data: Path, output: Path, steps: int) -> DetectorRecipe:
    dataset.Pool(data, 20, seed=9, workers=1)
    return DetectorRecipe(
        output=output, data=data, examples=20, data_seed=1, test_examples=4, test_seed=9, width=8,
        optimization={"steps": steps, **STEPS},
    )  # fmt: skip


def test_detector_resumes_exactly_and_moves_every_weight(data, tmp_path):
    whole = train_detector(detector_recipe(data, tmp_path / "whole", 6))
    with stopped_behind_state(2):
        train_detector(detector_recipe(data, tmp_path / "broken", 6))
    resumed = train_detector(detector_recipe(data, tmp_path / "broken", 6))
    assert moved(whole, resumed) == [name for name, _ in whole.named_parameters()]
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")
    assert [row.split(",")[1] for row in curves(tmp_path / "whole").split()[1:]] == [
        "loss", "centres", "boxes", "colours", "score/scenes",
    ]  # fmt: skip
    torch.manual_seed(0)
    assert moved(PictogramDetector(8), whole) == []
    for name, value in PictogramDetector.from_pretrained(tmp_path / "broken").state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])


def test_codes_of_the_pool_are_kept(data, tmp_path):
    torch.manual_seed(0)
    model, pool = MagvitV2(MagvitV2Config(**SMALL_IMAGE_MODEL)), dataset.Pool(data, 20, seed=1)
    codes = encode_pool(model, pool, tmp_path)
    assert codes.shape == (20, 64)
    [kept] = tmp_path.glob("codes-*/*.pt")
    written = kept.stat().st_mtime_ns
    assert torch.equal(encode_pool(model, pool, tmp_path), codes)
    assert kept.stat().st_mtime_ns == written
    torch.nn.init.normal_(model.encoder.conv_in.weight)  # another model has other codes
    assert not torch.equal(encode_pool(model, pool, tmp_path), codes)
    assert len(list(tmp_path.glob("codes-*"))) == 2
    kept.write_bytes(kept.read_bytes()[:100])
    torch.manual_seed(0)
    with pytest.raises(ImagecotError, match=r"0000000\.pt is damaged .*; delete it to compute it again"):
        encode_pool(MagvitV2(MagvitV2Config(**SMALL_IMAGE_MODEL)), pool, tmp_path)


def test_shared_bits_fold_into_a_plain_model():
    """Embeddings and logits of the folded Show-o are those of the model that shares a part per bit."""
    torch.manual_seed(0)
    config = ShowoConfig(
        codebook_size=8, num_vq_tokens=4, llm_vocab_size=20, vq_model="", llm_model_path="", max_text_len=8,
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    entries = torch.tensor([[1.0 if k & bit else -1.0 for bit in (4, 2, 1)] for k in range(8)])
    shared = SharedBits(Showo(config), entries)
    torch.nn.init.normal_(shared.head)
    folded = shared.folded()
    ids, hidden = torch.arange(config.vocab_size)[None], torch.randn(3, 16)
    torch.testing.assert_close(folded.showo.model.embed_tokens(ids), shared.embed(ids))
    torch.testing.assert_close(folded.code_logits(hidden), shared.code_logits(hidden))
    assert torch.equal(shared.model.code_logits(hidden), Showo.code_logits(shared.model, hidden))
    assert (folded.code_logits(hidden) - shared.model.code_logits(hidden)).abs().max() > 0.1
    text = torch.arange(20)
    assert torch.equal(folded.showo.model.embed_tokens(text), shared.model.showo.model.embed_tokens(text))
    # Two codes that differ in one bit differ by that bit's part, beside their own.
    own = shared.model.showo.lm_head.weight[config.code_offset :]
    both = folded.showo.lm_head.weight[config.code_offset :]
    torch.testing.assert_close((both - own)[5] - (both - own)[1], 2 * shared.head[0])


def test_captions_may_name_the_colours_of_the_scene():
    scene = Scene((Item("book", "red", 20.0, 20.0, 24, 1), Item("book", "red", 44.0, 44.0, 24, 1)), "sky")
    example = dataset.Example(counting_metadata("book", 2), scene)
    captions = {scene_caption(example, random.Random(k)) for k in range(60)}
    assert any("two red books" in text for text in captions)
    assert any("two books" in text for text in captions)
    assert not captions & held_out_texts()


def test_masks_hide_at_least_one_and_what_the_cosine_schedule_asks():
    mask = random_mask(torch.Size((2000, 64)), torch.Generator().manual_seed(0))
    counts = mask.sum(1)
    assert counts.min() >= 1 and counts.max() == 64
    # E cos(pi u / 2) = 2 / pi
    assert counts.float().mean().item() / 64 == pytest.approx(0.637, abs=0.02)


def test_partly_quantized_values_and_gradient():
    z = torch.tensor([[-2.0, 0.5, 0.0]]).requires_grad_()
    hard = partly_quantized(z, 1.0, torch.Generator())
    assert hard.tolist() == [[-1.0, 1.0, -1.0]]
    hard.sum().backward()
    assert torch.allclose(z.grad, 1 - torch.tanh(z.detach()).square())
    assert torch.equal(partly_quantized(z, 0.0, torch.Generator()), torch.tanh(z))


def test_edge_loss_by_hand():
    step = torch.zeros(1, 1, 2, 2)
    step[..., 1] = 1.0
    # one vertical edge of height 1 in both rows: mean 1 across, 0 down
    assert edge_loss(step, torch.zeros(1, 1, 2, 2)).item() == 1.0


def test_pictures_become_tensors():
    image = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    image[0, 0, 1, 2] = 255
    tensor = to_tensor(image.numpy())
    assert tensor.shape == (1, 3, 2, 2) and tensor[0, 2, 0, 1] == 1.0 and tensor.sum() == 1.0


def test_a_generator_may_start_from_another(data, tmp_path):
    """One step at rate 0 leaves what was loaded as it was, parts per bit included."""
    torch.manual_seed(0)
    MagvitV2(MagvitV2Config(**SMALL_IMAGE_MODEL)).save_pretrained(tmp_path / "vq")
    first = train_generator(generator_recipe(data, tmp_path / "first", tmp_path / "vq", 2))
    again = generator_recipe(data, tmp_path / "again", tmp_path / "vq", 1)
    again.start_from = tmp_path / "first"
    again.optimization.learning_rate = 0.0
    same = train_generator(again)
    assert set(moved(first, same)) == {name for name, _ in first.named_parameters()}
