"""Preference alignment: it learns, moves every weight, resumes exactly, writes what loads, and rewards alone teach."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from imagecot.alignment.dpo import DpoRecipe, train_dpo
from imagecot.alignment.mask_variance import measure
from imagecot.alignment.online import draw as draw_states
from imagecot.alignment.pair_data import load_pairs
from imagecot.contracts.scorer import Draws
from imagecot.curation.pairs import read_pairs, write_pairs
from imagecot.curation.schema import PairRow
from imagecot.errors import ImagecotError
from imagecot.generators import load_generator
from imagecot.generators.showo import ShowoGenerator
from imagecot.images import png, to_pictures
from imagecot.models import kinds_of_folder, known_words, weights_of
from masked import logits_of
from small_models import Brightness, write_generator
from stopping import stopped_behind_state

torch.set_num_threads(1)
PROMPTS = ["a photo of a red apple", "a photo of a bench", "a red bench", "an apple"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("base") / "generator")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Chosen images have codes below 32, rejected ones the others."""
    folder = tmp_path_factory.mktemp("data") / "pairs"
    generator = torch.Generator().manual_seed(0)
    rows = []
    for k in range(80):
        low, high = torch.randint(32, (2, 16), generator=generator)
        picture = torch.rand(3, 16, 16, generator=generator)
        images, codes = (png(picture), png(1 - picture)), (low.tolist(), (high + 32).tolist())
        rows.append(PairRow(str(k), f"{PROMPTS[k % 4]} {k // 4}", "single_object", "{}", k, k, *images, *codes))
    write_pairs(folder, rows, {})
    return folder


@pytest.fixture(scope="module")
def few(data, tmp_path_factory):
    """The first of them, for what needs no learning."""
    folder = tmp_path_factory.mktemp("data") / "few"
    write_pairs(folder, [*read_pairs(data)][:20], {})
    return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return file


def recipe(base, data, output, **training) -> DpoRecipe:
    values = {"batch_size": 8, "learning_rate": 1e-3, "draws": 2, "held_out": 0.2, "pictures": 2}
    return DpoRecipe(output=output, base=str(base), data=data, training={**values, **training})


def curve(folder, name) -> list[float]:
    with (folder / "training/curves.csv").open() as file:
        return [float(value) for _, n, value in csv.reader(file) if n == name]


def still(base, generator) -> list[str]:
    before = dict(load_generator(base).model.named_parameters())
    return [name for name, p in generator.model.named_parameters() if torch.equal(p, before[name])]


def test_it_learns_moves_every_weight_and_loads_again(base, data, tmp_path):
    trained = train_dpo(recipe(base, data, tmp_path / "out", epochs=2, evaluate_every=8))
    assert still(base, trained) == []
    assert curve(tmp_path / "out", "pairs/loss")[0] == pytest.approx(0.6931, abs=1e-3)  # the reference itself
    assert curve(tmp_path / "out", "pairs/loss")[-1] < 0.3
    assert curve(tmp_path / "out", "score/accuracy")[-1] > 0.9
    assert curve(tmp_path / "out", "score/kl")[0] == pytest.approx(0, abs=1e-3)
    assert curve(tmp_path / "out", "score/kl")[-1] > 0.01
    assert len(list((tmp_path / "out/training").glob("pictures-*.png"))) >= 3
    saved = load_generator(tmp_path / "out")
    assert (saved.steps, saved.guidance_scale) == (4, 1.75)
    assert "apple" in known_words(str(tmp_path / "out"))
    for (name, p), q in zip(trained.model.named_parameters(), saved.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-3, rtol=1e-3, msg=name)


def test_a_killed_training_goes_on_with_the_same_losses_and_weights(base, few, tmp_path):
    settings = {"steps": 5, "evaluate_every": 3, "save_every": 2, "gradient_checkpointing": True, "batch_size": 4}
    whole = train_dpo(recipe(base, few, tmp_path / "whole", **settings))
    with stopped_behind_state():
        train_dpo(recipe(base, few, tmp_path / "parts", **settings))
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts/training").glob("reference-*/*.pt")}
    assert kept
    parts = train_dpo(recipe(base, few, tmp_path / "parts", **settings))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept  # nothing was scored again
    both = [(tmp_path / name / "training/curves.csv").read_text() for name in ("whole", "parts")]
    assert both[0] == both[1]
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_adapter_loads_onto_its_base(base, data, tmp_path):
    lora = {"r": 4, "alpha": 8}
    trained = train_dpo(recipe(base, data, tmp_path / "out", epochs=1, lora=lora, learning_rate=1e-2))
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {f.name for f in (tmp_path / "out").iterdir()}
    moved = [name for name, p in trained.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in moved)
    assert curve(tmp_path / "out", "pairs/margin")[-1] > 0.1
    logits = []
    for generator in (trained, load_generator(tmp_path / "out"), load_generator(base)):
        paths = draw_states(generator, PROMPTS[:1], 2, 0)[-1]
        logits.append(logits_of(generator, paths.codes * 0 - 1, paths.prompt_index, paths.shared))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-3)
    assert (logits[0] - logits[2]).abs().max() > 0.1
    assert kinds_of_folder(tmp_path / "out") == ("generator",)
    assert known_words(str(tmp_path / "out")) == known_words(str(base))
    assert {"generator", "generator_base", "image_tokenizer"} <= set(weights_of("generator", str(tmp_path / "out")))


def test_pairs_that_were_drawn_again_are_scored_behind_their_rejected_image(base, data, tmp_path):
    rows = [
        replace(row, before_codes=[k % 8] * 16, told="there is no cup.") if k % 2 else row
        for k, row in enumerate(read_pairs(data))
    ]
    write_pairs(tmp_path / "pairs", rows, {})
    trained = train_dpo(recipe(base, tmp_path / "pairs", tmp_path / "out", epochs=2, evaluate_every=8))
    assert still(base, trained) == []
    assert curve(tmp_path / "out", "score/accuracy")[-1] > 0.9
    pairs = load_pairs(tmp_path / "pairs", trained, tmp_path)
    assert [type(asked) for asked in pairs.asked[:2]] == [str, tuple]
    behind, alone = (
        trained.log_likelihood(asked, pairs.chosen, Draws(torch.arange(80), 2))
        for asked in (pairs.asked, pairs.prompts)
    )
    differs = (behind - alone).abs() > 1e-3
    assert differs.tolist() == [False, True] * 40


def test_the_likelihood_of_chosen_images_is_kept(base, data, tmp_path):
    for name, weight in (("plain", 0.0), ("kept", 2.0)):
        train_dpo(recipe(base, data, tmp_path / name, steps=12, likelihood=weight))
    plain, kept = (curve(tmp_path / name, "pairs/log_prob_chosen") for name in ("plain", "kept"))
    losses = [curve(tmp_path / name, "pairs/loss")[0] for name in ("plain", "kept")]
    assert plain[0] == kept[0]
    assert losses[1] - losses[0] == pytest.approx(-2 * plain[0] / 16, rel=1e-5)  # 16 codes an image
    assert kept[-1] > plain[-1]


def test_guidance_of_weight_zero_is_plain_dpo_bit_for_bit(base, few, prompts, tmp_path):
    plain = train_dpo(recipe(base, few, tmp_path / "plain", steps=2, pictures=0))
    online = {"verifier": "none", "prompts": prompts, "group": 2, "prompts_a_step": 1, "draws": 2}
    zero = train_dpo(
        recipe(base, few, tmp_path / "zero", steps=2, pictures=0, online=online | {"weight": 0}), Brightness()
    )
    some = train_dpo(recipe(base, few, tmp_path / "some", steps=2, pictures=0, online=online), Brightness())
    weights = [dict(generator.model.named_parameters()) for generator in (plain, zero, some)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def rewarded(base, prompts, output, steps: int, **online) -> ShowoGenerator:
    """A training by rewards alone, for brightness."""
    online = {"verifier": "none", "prompts": prompts, **online}
    asked = recipe(base, None, output, dpo_weight=0, steps=steps, online=online, learning_rate=1e-3, pictures=0)
    return train_dpo(asked, Brightness())


def test_rewards_by_masks_move_every_weight(base, prompts, tmp_path):
    online = {"estimator": "masks", "group": 4, "prompts_a_step": 2, "draws": 2}
    assert still(base, rewarded(base, prompts, tmp_path / "out", 2, **online)) == []
    assert curve(tmp_path / "out", "online/kl")[0] == pytest.approx(0, abs=1e-5)
    assert curve(tmp_path / "out", "online/kl")[-1] > 0


@pytest.mark.parametrize(
    ("estimator", "group", "draws", "steps"),
    [("steps", 8, 2, 24), pytest.param("masks", 16, 8, 30, marks=pytest.mark.slow)],
)
def test_rewards_alone_teach_and_move_every_weight(base, prompts, tmp_path, estimator, group, draws, steps):
    online = {"group": group, "prompts_a_step": 4, "draws": draws, "estimator": estimator}
    trained = rewarded(base, prompts, tmp_path / "out", steps, **online)
    assert still(base, trained) == []

    def brightness(generator) -> torch.Tensor:
        return generator.preview(draw_states(generator, PROMPTS, 16, 99)[-1]).mean((1, 2, 3))

    before, after = brightness(load_generator(base)), brightness(trained)
    error = (before.var() / len(before) + after.var() / len(after)).sqrt()
    assert after.mean() - before.mean() > 3 * error
    assert curve(tmp_path / "out", "online/kl")[0] == pytest.approx(0, abs=1e-5)
    assert curve(tmp_path / "out", "online/kl")[-1] > 0


def test_rewards_of_no_probability_stop_with_the_batch(base, prompts, tmp_path):
    class Broken(Brightness):
        def ask(self, images, *rest):
            return super().ask(images, *rest) + 2

    online = {"verifier": "none", "prompts": prompts, "group": 2, "prompts_a_step": 1}
    asked = recipe(base, None, tmp_path / "out", dpo_weight=0, steps=2, online=online, pictures=0)
    with pytest.raises(ImagecotError, match=r"reward became 2\.\d+ for the prompt '.*' of step 0 \(the prompts '"):
        train_dpo(asked, Broken())


def test_a_loss_of_nan_stops_with_the_batch(base, data, tmp_path):
    asked = recipe(base, data, tmp_path / "out", pictures=0, warmup_ratio=0)
    asked.training.learning_rate = float("inf")  # no recipe may say so
    with pytest.raises(ImagecotError, match=r"loss became nan at step 1 \(the pairs \d+, .* and 5 more\)"):
        train_dpo(asked)
    assert not (tmp_path / "out/config.json").exists()


def test_pairs_of_the_papers_file_are_encoded_once(base, tmp_path):
    generator = load_generator(base)
    torch.manual_seed(0)
    lines = []
    for k in range(3):
        for side in ("chosen", "rejected"):
            to_pictures(torch.rand(1, 3, 16, 20))[0].save(tmp_path / f"{k}-{side}.png")
        lines.append({"prompt": PROMPTS[k], "chosen": f"{k}-chosen.png", "rejected": f"{k}-rejected.png"})
    file = tmp_path / "dpo.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pairs = load_pairs(file, generator, tmp_path / "cache")
    assert (len(pairs), pairs.prompts, pairs.chosen.shape) == (3, PROMPTS[:3], (3, 16))
    kept = {part: part.stat().st_mtime_ns for part in (tmp_path / "cache").glob("codes-*/*.pt")}
    again = load_pairs(file, generator, tmp_path / "cache")
    assert torch.equal(again.rejected, pairs.rejected)
    assert {part: part.stat().st_mtime_ns for part in (tmp_path / "cache").glob("codes-*/*.pt")} == kept != {}
    (tmp_path / "0-chosen.png").unlink()
    with pytest.raises(ImagecotError, match=r"line 1 of .*0-chosen\.png is missing"):
        load_pairs(file, generator, tmp_path / "cache")
    file.write_text('{"prompt": "x"}\n')
    with pytest.raises(ImagecotError, match=r"line 1 of .*chosen is missing"):
        load_pairs(file, generator, tmp_path / "cache")


def test_released_weights_in_torch_form_load(base, tmp_path):
    folder = write_generator(tmp_path / "released")
    (folder / "model.safetensors").unlink()
    torch.save(load_generator(base).model.state_dict(), folder / "pytorch_model.bin")
    loaded = load_generator(folder)
    for p, q in zip(load_generator(base).model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_variance_of_margins_is_measured_on_pairs(base, data, tmp_path):
    other = write_generator(tmp_path / "other")
    state = load_file(other / "model.safetensors")
    save_file({name: tensor * 0.95 for name, tensor in state.items()}, other / "model.safetensors")
    found = measure(str(other), str(base), data, pairs=6, repeats=3, draws=2)
    assert set(found) == {"shared", "independent", "published", "signal"}
    assert all(value > 0 for value in found.values())
    assert found == measure(str(other), str(base), data, pairs=6, repeats=3, draws=2)
    assert found != measure(str(other), str(base), data, pairs=6, repeats=3, draws=2, seed=1000)
