"""Folders of images that GenEval scores, damaged in every way: listed, and never scored in silence."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagecot.evaluation.folder import read_folder, read_image
from imagecot.worlds.drawn.captions import held_out_prompts
from imagecot.worlds.drawn.scenes import KINDS
from scored import score


def problems(folder: Path, samples: int = 2, **more) -> list[str]:
    found = read_folder(folder, samples, KINDS, **more)
    return [*found.problems, *(problem for entry in found.entries for problem in entry.problems)]


def test_a_whole_set_has_no_problems(images):
    found = read_folder(images, 2, KINDS, benchmark=held_out_prompts())
    assert problems(images, benchmark=held_out_prompts()) == []
    assert found.remarks == []
    assert len(found.entries) == 6


def test_gaps_are_problems(images):
    shutil.rmtree(images / "00003")
    assert any("no folder 00003: 1 prompt" in told for told in problems(images))
    assert any("has nothing of colors" in told for told in problems(images))
    (images / "00000").rename(images / "00009")
    assert any("00000, 00003, 00006 to 00008: 5 prompt" in told for told in problems(images))
    (images / "00009").rename(images / "999999999999")
    assert any("00006 to 999999999998" in told for told in problems(images))


def test_the_end_of_a_set_is_missed_where_the_set_is_known(images):
    prompts = held_out_prompts(1)
    shutil.rmtree(images / "00005")
    assert any("no folder 00005" in told for told in problems(images, prompts=prompts))
    assert any("no folder 00005" in told for told in problems(images, benchmark=prompts))
    other = [prompts[1], *prompts[1:]]
    told = problems(images, prompts=other)
    assert any("00000 does not hold prompt 1 of --prompts" in line for line in told)
    assert any("beyond the 2 prompts" in line for line in problems(images, prompts=prompts[:2]))
    assert not any("has nothing of" in line for line in problems(images, prompts=prompts))


def test_no_prompt_and_no_image_counts_twice(images):
    shutil.copytree(images / "00000", images / "00006")
    shutil.copytree(images / "00001", images / "1")
    (images / "old copy").mkdir()
    shutil.copy(images / "00000/metadata.jsonl", images / "old copy")
    for name in ("0002.png", "0003.png", "1.png"):
        shutil.copy(images / "00002/samples/0000.png", images / "00002/samples" / name)
    shutil.copy(images / "00003/samples/0000.png", images / "00003/samples/0001.png")
    told = "\n".join(problems(images))
    assert "00006 repeats the prompt of 00000 and is left out" in told
    assert "has the number of " in told
    assert "old copy is not named by a number" in told
    assert "00002 has 4 of 2 images: more images than --samples asks for" in told
    assert "1.png has the number of " in told
    found = read_folder(images, 2, KINDS)
    assert sum(len(entry.images) for entry in found.entries if entry.metadata) == 12
    assert len(found.remarks) == 1
    assert "00003/samples/0001.png is the same picture as 0000.png" in found.remarks[0]


def metadata_lines() -> dict[str, bytes]:
    line = held_out_prompts(1)[0].text
    return {
        "missing": b"", "empty": b"\n", "two lines": f"{line}\n{line}\n".encode(), "null": b"null", "latin": b"\xff",
        "nan": line.replace("1", "NaN").encode(), "deep": b"[" * 100_000, "surrogate": b'{"prompt": "\\ud800"}',
        "tag list": line.replace('"single_object"', '["single_object"]').encode(),
        "tag number": line.replace('"single_object"', "7").encode(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*metadata_lines(), "fifo", "folder", "loop"])
def test_damaged_metadata_of_a_folder_is_a_problem(images, kind):
    file = images / "00000/metadata.jsonl"
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind != "missing":
        file.write_bytes(metadata_lines()[kind])
    assert any("00000/metadata.jsonl" in told for told in problems(images))
    assert read_folder(images, 2, KINDS).entries[0].metadata is None


def bomb() -> bytes:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (50_000).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    return head + b"\0" * 40


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "bomb", "fifo", "folder", "dangling"])
def test_an_unreadable_image_is_a_problem(imagecot, images, kind):
    file = images / "00000/samples/0001.png"
    whole = file.read_bytes()
    file.unlink()
    contents = {"empty": b"", "cut": whole[:200], "text": b"hello", "bomb": bomb()}
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "dangling":
        file.symlink_to("nowhere.png")
    else:
        file.write_bytes(contents[kind])
    code, summary, _ = score(imagecot)
    assert code == 1
    assert any("00000/samples/0001.png" in told for told in summary["problems"])
    assert summary["score"]["total_images"] == 11


def test_pictures_of_other_kinds_are_the_same_pictures(images, tmp_path):
    file = images / "00000/samples/0000.png"
    with Image.open(file) as picture:
        grey = picture.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    grey.save(tmp_path / "grey.png")
    grey.save(tmp_path / "moving.png", save_all=True, append_images=[grey])
    assert torch.equal(read_image(tmp_path / "deep.png"), read_image(tmp_path / "grey.png"))
    assert torch.equal(read_image(tmp_path / "moving.png"), read_image(tmp_path / "grey.png"))
