"""The study of Table 5: its table by hand, its rows from one recorded prompt, and resume."""

import pytest
import torch

from imagecot.contracts.metadata import Metadata, Need
from imagecot.contracts.randomness import prompt_seed
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate
from imagecot.geneval.rules import Judgment
from imagecot.reflection.discrepancies import Discrepancy
from imagecot.strategies.search import search
from imagecot.study import StudyRecipe, follow, run
from imagecot.study import self_correction as study
from imagecot.study.models import Judges, Models
from imagecot.study.rows import SelfCorrectionRow
from imagecot.study.self_correction import LABELS, WITH, Work, observe, observe_prompt, timed
from imagecot.study.store import Store
from imagecot.study.table_five import analyse
from plain_decoder import tiny_generator
from test_search_parm_plus_plus import Reflecting

torch.set_num_threads(1)
METADATA = Metadata("colors", "a photo of a red apple by night", (Need("apple", color="red"),))
WRONG = Reflection("no, the apple is green, not red.", 0.1)


RECIPE = StudyRecipe(
    output="x", n=4, prompts_per_task=1, timed_prompts=0,
    self_correction={"correcting_generator": "g", "orm": "o", "parm": "p", "parm_plus_plus": "pp", "more_paths": 6},
)  # fmt: skip
PART = RECIPE.self_correction


class Bright(Judges):
    """To the first judge bright images are right, to the second dark ones."""

    def look(self, images, metadata):
        bright = [float(image.mean()) > 0.5 for image in images]
        told = "expected red apple>=1, found 0 red; and 1 green"
        return [[Judgment(right, told) for right in bright], [Judgment(not right, "") for right in bright]]


def work() -> Work:
    return Work(RECIPE, PART, models(), Bright([]))


def models() -> Models:
    return Models(tiny_generator(steps=3), {"o": Reflecting(), "p": Reflecting(), "pp": Reflecting(says=[WRONG] * 99)})


def test_a_prompt_is_what_the_searches_would_do():
    row = observe_prompt(work(), 0, METADATA, "there is no cup.")
    assert row.arms.keys() == LABELS.keys()
    seed = prompt_seed(0, METADATA.prompt)
    real = search(METADATA.prompt, generator=tiny_generator(steps=3), verifier=Reflecting(says=[WRONG] * 3),
                  strategy="parm++", n=4, seed=seed)  # fmt: skip
    assert row.arms[WITH].correct == Bright([]).right(real.image, METADATA)
    assert row.arms[WITH].cost.generator_rows == real.cost.generator_rows
    assert row.arms[WITH].cost.judge_calls == real.cost.judge_calls
    assert [said["text"] for said in row.said] == [WRONG.text] * 3
    assert row.reasons == "the apple is green, not red."
    assert row.understood == row.true == [Discrepancy("color", "apple", "red", "green")]
    for name in study.ROUNDED:
        assert len(row.arms[name].redrawn) == 1  # a fifth of four paths, at least one
        assert row.arms[name].by_round[-1] == row.arms[name].correct
        assert row.arms[name].by_round[0] == row.arms["parm++_without_reflection"].correct


def test_the_controls_are_told_less():
    rejected = Candidate(0, codes={1: torch.zeros(16), 3: torch.arange(16)})
    tellings = study.tellings("other", lambda c: f"seen in {c.seed}", lambda c: f"written of {c.seed}")
    assert tuple(tellings) == tuple(study.ROUNDED)
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
    right = Discrepancy("missing", "cup")
    rows = [
        SelfCorrectionRow(
            number=number, metadata=METADATA.worded("ab"[number]), began=1.0, ended=2.0,
            arms={name: arm(False, False, False, False) for name in LABELS} | {WITH: arm(False, True, True, ends)},
            said=[{"problem": "empty"}, {"problem": None}], reasons="",
            understood=[right], true=[right] if ends else [],
        )
        for number, ends in enumerate((True, False))
    ]  # fmt: skip
    result = analyse(rows, RECIPE, PART, {WITH: {4: 2.0}}).model_dump()
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


def test_an_interrupted_study_goes_on(tmp_path, monkeypatch):
    told = []

    def one(work, number, metadata, other):
        if len(told) == 4:
            told.append(None)
            raise KeyboardInterrupt
        told.append(other)
        return SelfCorrectionRow(
            number=number, metadata=metadata, arms={}, said=[], reasons=metadata.prompt, understood=[], true=[],
            began=1.0, ended=2.0,
        )  # fmt: skip

    monkeypatch.setattr(study, "observe_prompt", one)
    store, done = Store(tmp_path, "candidates", SelfCorrectionRow), []

    def go() -> None:
        observe(work(), store, lambda: done.append(1))

    with pytest.raises(KeyboardInterrupt):
        go()
    store.fold()
    go()
    prompts = [row.metadata.prompt for row in store.rows()]
    assert len(set(prompts)) == len(done) == 6
    # Each prompt's control is told the reasons of the prompt before it.
    assert [one for one in told if one is not None] == ["", *prompts[:-1]]


def test_a_study_may_be_of_self_correction_alone(tmp_path, monkeypatch):
    """From recipe to summary, with small models; the second run finds everything there."""
    loaded = []

    def load(generator, verifiers, precision, before):
        loaded.append((generator, sorted(verifiers), precision))
        return models()

    monkeypatch.setattr(follow, "weights_used", lambda recipe, known: {"generators": {"g": {}}})
    monkeypatch.setattr("imagecot.study.models.load_models", load)
    monkeypatch.setattr(Judges, "look", Bright.look)
    monkeypatch.setattr(study, "shuffled_prompts", lambda recipe: [METADATA, METADATA.worded("b")])
    monkeypatch.setattr("imagecot.recipes.has_bfloat16", lambda: True)
    recipe = RECIPE.model_copy(update={"output": tmp_path / "s", "timed_prompts": 1, "precision": "bfloat16"})
    summary = run(recipe)
    assert loaded == [("g", ["o", "p", "pp"], "bfloat16")]
    assert summary.rows == {}
    found = summary.self_correction
    assert found.rows.keys() == LABELS.keys()
    assert found.prompts == 2
    assert found.rows[WITH].seconds_per_image > 0
    assert found.rows["without_image"].seconds_per_image is None
    again = run(recipe)
    assert len(loaded) == 1
    assert again.self_correction == found
