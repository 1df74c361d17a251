"""An evaluation as a recipe and a function: bounds, what it returns, and that the command does the same."""

import json
import random
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from imagecot import evaluation
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation import EvaluationRecipe
from imagecot.evaluation.folder import write_entry
from imagecot.evaluation.summary import read_summary
from imagecot.recipes import follow, read
from imagecot.watch import Watch
from imagecot.worlds.drawn.captions import held_out_prompts
from imagecot.worlds.drawn.scenes import compose, draw


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """A prompt of each of two tasks, an image each: the first is right, the second shows nothing."""
    monkeypatch.chdir(tmp_path)
    for k, metadata in enumerate(held_out_prompts(1)[:2]):
        picture = torch.tensor(list(draw(compose(metadata, random.Random(0))).tobytes())).view(64, 64, 3)
        image = picture.permute(2, 0, 1).float() / 255
        write_entry(Path("im") / f"{k:05d}", metadata, (image if k == 0 else torch.ones_like(image))[None])
    return Path("im")


def recipe(**values) -> EvaluationRecipe:
    return EvaluationRecipe(**{"images": "im", "samples": 1, "detector": "pictograms", "output": "o", **values})


def test_an_evaluation_is_a_function_of_its_recipe(images, imagecot):
    said: list[str] = []
    found = evaluation.run(recipe(), watch=Watch(tell=said.append))
    assert found is not None
    assert (found.score.tasks["single_object"].correct, found.score.tasks["two_object"].correct) == (1, 0)
    assert found.score.overall == 0.5
    assert found.second_judge is not None and found.agreement is not None
    assert found.record.detector["detector"] == "pictograms (convolutional)"
    assert found == read_summary(Path("o"))
    assert found.as_json() == json.loads(Path("o/summary.json").read_text())
    assert said == []
    asked = ("evaluate", "geneval", "--images", "im", "--samples", "1", "--detector", "pictograms")
    assert imagecot(*asked, "--out", "p")[0] == 1  # the other tasks are missing
    for name in ("results.jsonl", "results-second.jsonl", "table.md", "failures.png", "evaluation.json"):
        assert Path("o", name).read_bytes() == Path("p", name).read_bytes()
    compared = evaluation.run(recipe(output="q", against="o"))
    assert compared is not None and compared.against is not None
    assert (compared.against.difference, compared.against.p_value) == (0, 1)
    assert compared.model_copy(update={"against": None}).score == found.score


def test_a_recipe_in_a_file_is_followed_like_one_in_python(images, imagecot):
    Path("score.yaml").write_text("kind: geneval\nimages: im\nsamples: 1\ndetector: pictograms\noutput: o\n")
    read_back = read("score.yaml", ["output=p"])
    assert read_back == recipe(output=Path("p"))
    found = follow(read_back)
    code, out, _ = imagecot("run", "score.yaml")
    assert code == 1
    assert out.startswith("| task | images | score | second judge |")
    assert found == read_summary(Path("p"))
    assert found.score == read_summary(Path("o")).score
    code, out, err = imagecot("run", "score.yaml", "samples=0")
    assert (code, out) == (2, "")
    assert "samples: input should be greater than or equal to 1, not 0" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "values",
    [
        {"samples": 0}, {"samples": 100_001}, {"samples": "2"}, {"samples": True}, {"samples": 1.0},
        {"n": 0}, {"n": 100_001}, {"seed": 2**63}, {"seed": 0.5}, {"workers": 0}, {"workers": 1025},
        {"generator": "tiny"}, {"images": None}, {"images": " "}, {"output": ""}, {"precision": "half"},
        {"verifier": "tiny-orm"}, {"corrector": "tiny"}, {"per_task": 1}, {"settings": {"keep": 0.5}},
        {"images": None, "generator": "tiny", "per_task": 0}, {"images": None, "generator": "tiny", "settings": [1]},
        {"kind": "study"}, {"image": "im"}, {"detector": 3},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_no_recipe(values):
    with pytest.raises(ValidationError):
        recipe(**values)


def test_a_recipe_stays_as_it_is():
    asked = recipe()
    with pytest.raises(ValidationError):
        asked.samples = 3
    assert (asked.kind, asked.search, asked.n, asked.seed, asked.workers) == ("geneval", "single", 20, 0, 1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"images": "nowhere"}, "is no folder"),
        ({"detector": "nobody"}, "there is no detector"),
        ({"images": None, "generator": "tinny"}, "did you mean tiny"),
        ({"prompts": "none.jsonl"}, "is missing"),
        ({"against": "nowhere"}, "holds no finished evaluation"),
        ({"output": "im"}, "is not empty and holds no evaluation"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(images, values, told):
    before = sorted(Path().rglob("*"))
    with pytest.raises(UsageError, match=told) as caught:
        evaluation.run(recipe(**values))
    assert "\n" not in str(caught.value)
    assert sorted(Path().rglob("*")) == before


def test_images_that_cannot_be_read_leave_nothing(images):
    for file in images.glob("*/samples/*.png"):
        file.write_bytes(b"")
    with pytest.raises(ImagecotError, match="not one image could be scored"):
        evaluation.run(recipe())
    assert not list(Path("o").glob("*"))
