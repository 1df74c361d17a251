"""The study of Table 5: its table by hand, its rows from one recorded prompt, and resume."""

from typing import Any

import pytest
import torch

from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate
from imagecot.geneval.rules import Judgment
from imagecot.images import from_picture, to_pictures
from imagecot.strategies.search import search
from imagecot.study import run as study_run
from imagecot.study import self_correction as study
from imagecot.study.pool import Judges, Models
from imagecot.study.recipe import StudyRecipe
from imagecot.study.rows import Numbered
from imagecot.study.self_correction import LABELS, WITH, analyse, observe, observe_prompt, timed
from imagecot.study.store import Store
from plain_decoder import tiny_generator
from test_search_parm_plus_plus import Reflecting

torch.set_num_threads(1)
METADATA = {"tag": "colors", "prompt": "a photo of a red apple by night", "exclude": [],
            "include": [{"class": "apple", "count": 1, "color": "red"}]}  # fmt: skip
WRONG = Reflection("no, the apple is green, not red.", 0.1)


RECIPE = StudyRecipe(
    output="x", n=4, prompts_per_task=1, timed_prompts=0,
    self_correction={"correcting_generator": "g", "orm": "o", "parm": "p", "parm_plus_plus": "pp", "more_paths": 6},
)  # fmt: skip
PART = RECIPE.self_correction


def look(image):
    bright = float(from_picture(image).mean()) > 0.5
    return [Judgment(bright, "expected red apple>=1, found 0 red; and 1 green"), Judgment(not bright, "")]


def models() -> Models:
    return Models(tiny_generator(steps=3), {"o": Reflecting(), "p": Reflecting(), "pp": Reflecting(says=[WRONG] * 99)})


def test_a_prompt_is_what_the_searches_would_do():
    row = observe_prompt(RECIPE, PART, METADATA, models(), look, "there is no cup.")
    assert row["arms"].keys() == LABELS.keys()
    seed = prompt_seed(0, METADATA["prompt"])
    real = search(METADATA["prompt"], generator=tiny_generator(steps=3), verifier=Reflecting(says=[WRONG] * 3),
                  strategy="parm++", n=4, seed=seed)  # fmt: skip
    assert row["arms"][WITH]["correct"] == [v.correct for v in look(real.image)]
    assert row["arms"][WITH]["cost"]["generator_rows"] == real.cost.generator_rows
    assert row["arms"][WITH]["cost"]["judge_calls"] == real.cost.judge_calls
    assert [said["text"] for said in row["said"]] == [WRONG.text] * 3
    assert row["reasons"] == "the apple is green, not red."
    assert row["understood"] == row["true"] == [
        {"kind": "color", "object": "apple", "expected": "red", "found": "green", "target": ""}
    ]  # fmt: skip
    for name in study.ROUNDED:
        assert len(row["arms"][name]["redrawn"]) == 1  # a fifth of four paths, at least one
        assert row["arms"][name]["by_round"][-1] == row["arms"][name]["correct"]
        assert row["arms"][name]["by_round"][0] == row["arms"]["parm++_without_reflection"]["correct"]


def test_the_controls_are_told_less():
    rejected = Candidate(0, codes={1: torch.zeros(16), 3: torch.arange(16)})
    tellings = study.tellings("other", lambda c: f"seen in {c.seed}", lambda c: f"written of {c.seed}")
    assert tuple(tellings) == study.ROUNDED
    told = {name: tell(rejected, WRONG) for name, tell in tellings.items()}
    assert torch.equal(told[WITH].codes, torch.arange(16))
    assert {name: (one.codes is not None, one.reasons) for name, one in told.items()} == {
        WITH: (True, "the apple is green, not red."),
        "without_reasons": (True, ""),
        "shuffled_reasons": (True, "other"),
        "without_image": (False, "the apple is green, not red."),
        "prompt_alone": (False, ""),
        "written_reasons": (True, "written of 0"),
        "scorer_reasons": (True, "seen in 0"),
    }


def arm(*by_round: bool) -> dict:
    return {
        "correct": [by_round[-1], not by_round[-1]],
        "by_round": [[right, not right] for right in by_round],
        "redrawn": [[right, True] for right in by_round[1:3]],
        "cost": {"generator_rows": 10, "previews": 1, "judge_calls": 2, "tokens_judged": 3},
    }


def test_the_table_by_hand():
    right = {"kind": "missing", "object": "cup", "expected": "", "found": "", "target": ""}
    rows = [
        {
            "metadata": {**METADATA, "prompt": prompt},
            "arms": {name: arm(False, False, False, False) for name in LABELS} | {WITH: arm(False, True, True, ends)},
            "said": [{"problem": "empty"}, {"problem": None}], "reasons": "",
            "understood": [right], "true": [right] if ends else [],
        }
        for prompt, ends in (("a", True), ("b", False))
    ]  # fmt: skip
    result = analyse(rows, RECIPE, PART, {WITH: {4: 2.0}})
    assert result["rows"][WITH]["overall"] == 0.5
    assert result["rows"][WITH]["second_judge"]["overall"] == 0.5
    assert result["rows"]["parm"]["overall"] == 0.0
    assert result["rows"][WITH]["seconds_per_image"] == 2.0
    assert result["rows"]["more_paths"]["n"] == 6
    assert [score["overall"] for score in result["by_round"][WITH]] == [0.0, 1.0, 1.0, 0.5]
    # Only the image of prompt a was wrong: both redrawn ones are right, in the control to the second judge only.
    assert result["redrawn"][WITH] == {"prompts": 1, "right": [1.0, 1.0], "standard_error": [0.0, 0.0]}
    assert result["redrawn"]["without_reasons"]["right"] == [0.0, 1.0]
    assert result["reasons"]["precision"] == 0.5
    assert result["reasons"]["recall"] == 1.0
    assert result["problems"] == {"empty": 2}
    assert result["rounds"] == {"1": 0, "2": 2, "3": 0}
    gain = next(g for g in result["comparisons"] if g["b"] == "without_reasons")
    assert gain["difference"] == 0.5
    assert result["rows"][WITH]["label"] == "PARM++ with reflection"
    assert result["rows"][WITH]["cost"]["judge_calls"] == 2.0
    assert {one.name: one.sizes for one in timed(RECIPE, PART)}["more_paths"] == [6]


class Short(Numbered):
    """What is kept of a prompt whose paths are not drawn."""

    metadata: dict[str, Any]
    reasons: str
    began: float
    ended: float


def test_an_interrupted_study_goes_on(tmp_path, monkeypatch):
    told = []

    def one(recipe, part, metadata, models, look, other):
        if len(told) == 4:
            told.append(None)
            raise KeyboardInterrupt
        told.append(other)
        return {"metadata": metadata, "reasons": metadata["prompt"]}

    monkeypatch.setattr(study, "observe_prompt", one)
    store, done = Store(tmp_path, "candidates", Short), []

    def go() -> None:
        observe(RECIPE, PART, store, models(), Judges([]), lambda: done.append(1))

    with pytest.raises(KeyboardInterrupt):
        go()
    store.fold()
    go()
    prompts = [row["metadata"]["prompt"] for row in store.rows()]
    assert len(set(prompts)) == len(done) == 6
    # Each prompt's control is told the reasons of the prompt before it.
    assert [one for one in told if one is not None] == ["", *prompts[:-1]]


def test_a_study_may_be_of_self_correction_alone(tmp_path, monkeypatch):
    """From recipe to summary, with small models; the second run finds everything there."""
    loaded = []

    def load(generator, verifiers, precision, before):
        loaded.append((generator, sorted(verifiers), precision))
        return models()

    monkeypatch.setattr(study_run, "weights_used", lambda recipe, known: {"generators": {"g": {}}})
    monkeypatch.setattr("imagecot.study.pool.load_models", load)
    monkeypatch.setattr(Judges, "look", lambda self, images, metadata: [[v] for v in look(*to_pictures(images))])
    monkeypatch.setattr(study, "shuffled_prompts", lambda recipe: [METADATA, {**METADATA, "prompt": "b"}])
    recipe = RECIPE.model_copy(update={"output": tmp_path / "s", "timed_prompts": 1, "precision": "bfloat16"})
    summary = study_run.run(recipe)
    assert loaded == [("g", ["o", "p", "pp"], "bfloat16")]
    assert summary["rows"] == {}
    found = summary["self_correction"]
    assert found["rows"].keys() == LABELS.keys()
    assert found["prompts"] == 2
    assert found["rows"][WITH]["seconds_per_image"] > 0
    assert found["rows"]["without_image"]["seconds_per_image"] is None
    again = study_run.run(recipe)
    assert len(loaded) == 1
    assert again["self_correction"] == found
