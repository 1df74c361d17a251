"""Trainings on broken data and in taken folders: one sentence, no half files."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import imagecot.alignment.dpo as dpo
from imagecot.alignment.dpo import train_dpo
from imagecot.alignment.online import read_prompt_texts
from imagecot.alignment.pair_data import load_pairs
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators import load_generator
from imagecot.training.output import is_finished
from imagecot.watch import Watch
from small_models import Brightness, write_generator, write_verifier
from small_trainings import lines, pairs_in, picture, recipe, same, undisturbed

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("base") / "generator")


@pytest.fixture(scope="module")
def drawer(base):
    return load_generator(base)


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory):
    """What an undisturbed training of two steps leaves."""
    return undisturbed(base, tmp_path_factory.mktemp("straight"))


@pytest.fixture
def data(tmp_path):
    return pairs_in(tmp_path)


def test_a_finished_folder_is_told_again_and_refuses_every_other_training(base, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    train_dpo(recipe(base, data, out))
    assert is_finished(out)
    written = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}
    monkeypatch.setattr(dpo, "load_policy", lambda *_, **__: pytest.fail("nothing is left to train"))
    again = recipe(base, data, out, save_every=7, evaluate_every=9, pictures=1, gradient_checkpointing=True)
    assert train_dpo(again) is None
    copy = shutil.copytree(base, tmp_path / "copy")
    others = {
        'base ".*generator", not ".*copy"': recipe(copy, data, out),
        "training.learning_rate 0.001, not 0.002": recipe(base, data, out, learning_rate=2e-3),
        "training.lora.r 2, not 3": recipe(base, data, out, lora={"r": 3, "alpha": 4}),
        "training.seed 0, not 1": recipe(base, data, out, seed=1),
        'reference null, not "': recipe(base, data, out, reference=str(copy)),
    }
    for message, other in others.items():
        with pytest.raises(UsageError, match=rf"out holds another training \({message}.*choose another folder or del"):
            train_dpo(other)
    picture(99).save(tmp_path / "b.png")
    with pytest.raises(UsageError, match=r"holds another training .content of data"):
        train_dpo(recipe(base, data, out))
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()} == written


def test_other_weights_under_the_name_of_the_base_are_another_training(base, data, tmp_path):
    own = shutil.copytree(base, tmp_path / "own")
    train_dpo(recipe(own, data, tmp_path / "out"))
    shutil.copy(write_generator(tmp_path / "other") / "config.json", own)
    file = own / "vq" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(UsageError, match=r"holds another training .weights of base"):
        train_dpo(recipe(own, data, tmp_path / "out"))


@pytest.mark.parametrize("left", ["finished", "states"])
def test_a_folder_of_an_earlier_version_is_refused(base, data, tmp_path, left):
    train_dpo(recipe(base, data, tmp_path / "out"))
    (tmp_path / "out/training.json").unlink()
    if left == "states":
        for file in (tmp_path / "out").iterdir():
            if file.name != "training":
                file.unlink()
    with pytest.raises(UsageError, match="does not say what it was made from"):
        train_dpo(recipe(base, data, tmp_path / "out"))


def test_outputs_that_can_hold_no_training(base, data, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file is a file; give a folder"):
        train_dpo(recipe(base, data, tmp_path / "file"))
    with pytest.raises(ImagecotError, match=r"cannot write .*file/in"):
        train_dpo(recipe(base, data, tmp_path / "file/in/it"))
    with pytest.raises(UsageError, match="is not empty and holds no training"):
        train_dpo(recipe(base, data, tmp_path))
    (tmp_path / "linked").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked/training").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImagecotError, match="is a link"):
        train_dpo(recipe(base, data, tmp_path / "linked"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_mistaken_command_does_not_claim_its_folder(base, data, straight, tmp_path):
    wrong = recipe(base, data, tmp_path / "out", warmup_ratio=0)
    wrong.training.learning_rate = float("inf")  # no recipe may say so
    with pytest.raises(ImagecotError, match="the loss became nan at step 1"):
        train_dpo(wrong.model_copy(update={"training": wrong.training.model_copy(update={"save_every": 9})}))
    train_dpo(recipe(base, data, tmp_path / "out"))
    assert same(tmp_path / "out", straight)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": null, "chosen": "a.png", "rejected": "b.png"}', "prompt: "),
        ('{"prompt": "", "chosen": "a.png", "rejected": "b.png"}', "the prompt is empty"),
        ('{"prompt": " \\u200b", "chosen": "a.png", "rejected": "b.png"}', "the prompt is empty"),
        ('{"prompt": 5, "chosen": "a.png", "rejected": "b.png"}', "prompt: "),
        ('{"prompt": [{"role": "user", "content": "x"}], "chosen": "a.png", "rejected": "b.png"}', "prompt: "),
        ('{"prompt": "x", "chosen": ["a.png"], "rejected": "b.png"}', "chosen: "),
        ('{"prompt": "x", "chosen": "a.png"}', "rejected is missing"),
        ('{"prompt": "x", "chosen": "a.png", "rejected": "a.png"}', "chosen and rejected are the same image"),
        ('{"prompt": "x", "chosen": "a.png", "rejected": "none.png"}', "none.png is missing"),
        ('{"prompt": "x", "chosen": "", "rejected": "b.png"}', "is a folder"),
        ('{"prompt": "x", "chosen": "a\\u0000.png", "rejected": "b.png"}', "cannot be read"),
        ('{"prompt": "x", "chosen": "dpo.jsonl", "rejected": "b.png"}', "is no readable picture"),
        ('{"prompt": "' + "a " * 500 + '", "chosen": "a.png", "rejected": "b.png"}', "tokens but this generator"),
        ('{"prompt": "\\ud800", "chosen": "a.png", "rejected": "b.png"}', "is not valid JSON"),
        ('{"prompt": NaN, "chosen": "a.png", "rejected": "b.png"}', "is not valid JSON"),
        ("[" * 9999, "is not valid JSON"),
        ("[]", ""),
        ("x", "is not valid JSON"),
    ],
)
def test_lines_that_are_no_pair_are_named(line, message, drawer, data, tmp_path):
    with data.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ImagecotError, match=rf"line 3 of .*{message}") as told:
        load_pairs(data, drawer, tmp_path / "cache")
    assert len(str(told.value).splitlines()) == 1


def test_a_training_on_broken_pairs_leaves_nothing(base, data, tmp_path):
    whole = data.read_text()
    for line in ('{"prompt": null, "chosen": "a.png", "rejected": "b.png"}', '{"prompt": "x", "chosen": "dpo.jsonl"}'):
        data.write_text(whole + line)
        with pytest.raises(UsageError, match="line 3"):
            train_dpo(recipe(base, data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_pairs_of_two_files_of_one_picture_are_counted(base, data, tmp_path):
    picture(ord("a")).save(tmp_path / "copy.bmp")
    lines(tmp_path, ("x", "a.png", "copy.bmp"), ("a red bench", "c.png", "d.png"))
    told: list[str] = []
    train_dpo(recipe(base, data, tmp_path / "out"), watch=Watch(tell=told.append))
    assert len(told) == 1 and "1 of 2 pairs of" in told[0] and "teach nothing: line 1" in told[0]
    lines(tmp_path, ("x", "a.png", "copy.bmp"))
    with pytest.raises(ImagecotError, match="there is nothing to learn"):
        train_dpo(recipe(base, data, tmp_path / "other"))


def test_separators_marks_and_empty_files(drawer, data, tmp_path):
    text = data.read_text().replace("red apple", "red\u2028apple")
    data.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode())
    assert load_pairs(data, drawer, tmp_path / "cache").ids == ["line 1", "line 3"]
    data.write_text("\n")
    with pytest.raises(UsageError, match="has no pairs"):
        load_pairs(data, drawer, tmp_path / "cache")
    for missing in ("none.jsonl", "none"):
        with pytest.raises(UsageError, match=r"none.* is missing"):
            dpo.content_of(tmp_path / missing)
    with pytest.raises(UsageError, match="holds no data"):
        dpo.content_of(tmp_path)


def test_a_picture_drawn_anew_has_its_own_codes(drawer, data, tmp_path):
    before = load_pairs(data, drawer, tmp_path / "cache")
    picture(5).save(tmp_path / "b.png")
    after = load_pairs(data, drawer, tmp_path / "cache")
    fresh = load_pairs(data, drawer, tmp_path / "fresh")
    assert torch.equal(after.rejected, fresh.rejected) and not torch.equal(after.rejected, before.rejected)
    assert torch.equal(after.chosen, before.chosen)


def test_pictures_are_turned_as_their_exif_says_and_read_in_16_bits(drawer, data, tmp_path):
    image = picture(ord("a"))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    grey = image.convert("L")
    grey.save(tmp_path / "c.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    lines(tmp_path, ("x", "a.png", "b.png"), ("y", "c.png", "d.png"), ("z", "deep.png", "d.png"))
    turned = load_pairs(data, drawer, tmp_path / "cache")
    assert torch.equal(turned.chosen[1], turned.chosen[2])
    image.save(tmp_path / "a.png")
    assert torch.equal(load_pairs(data, drawer, tmp_path / "cache").chosen[0], turned.chosen[0])


@pytest.mark.parametrize("text", ["", "{}\n", '{"prompt": null}\n', '{"prompt": " "}\n', "[1]\n", "\0\n"])
def test_prompts_that_are_none(text, tmp_path):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(UsageError, match=r"line 1 of .*p\.jsonl|has no prompts"):
        read_prompt_texts(tmp_path / "p.jsonl")


def test_models_of_another_kind(base, data, tmp_path):
    verifier = write_verifier(tmp_path / "verifier")
    with pytest.raises(UsageError, match="not a Show-o"):
        train_dpo(recipe(verifier, data, tmp_path / "out"))
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red bench"}\n')
    online = {"verifier": str(base), "prompts": tmp_path / "p.jsonl", "group": 2}
    with pytest.raises(UsageError, match="cannot judge: its tokenizer has no token"):
        train_dpo(recipe(base, data, tmp_path / "out", online=online))
    (tmp_path / "p.jsonl").write_text('{"prompt": "' + "a " * 500 + '"}\n')
    with pytest.raises(UsageError, match=r"line 1 of .*tokens but this generator"):
        train_dpo(recipe(base, data, tmp_path / "out", online=online), Brightness())
    assert not (tmp_path / "out").exists()
