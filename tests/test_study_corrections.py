"""The study of corrections: its sums by hand, its ways redone outside of it, resume, and what it refuses."""

import json

import pytest
import torch

from imagecot.contracts.correction import Correction
from imagecot.contracts.metadata import Metadata, Need
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import fork_seeds, path_seeds, prompt_seed
from imagecot.contracts.reflection import Reflection
from imagecot.errors import UsageError
from imagecot.geneval.rules import Judgment
from imagecot.reflection.discrepancies import Discrepancy
from imagecot.study import corrections as study
from imagecot.study import run
from imagecot.study.corrections import FOUND, LABELS, CorrectionsRecipe, Models, observe
from imagecot.study.corrections_table import analyse, table
from imagecot.study.models import Judges
from imagecot.study.rows import CorrectionsRow
from plain_decoder import tiny_generator
from test_search_parm_plus_plus import Reflecting

torch.set_num_threads(1)
METADATA = Metadata("colors", "a photo of a red apple", (Need("apple", color="red"),))
UNREADABLE = METADATA.worded("a red apple by night, please")
RECIPE = CorrectionsRecipe(output="x", generator="g", corrector="c", verifier="v", paths=4, wrong=2, redraws=3)
SAID = Reflection("no, the apple is green, not red.", 0.1)


class Colors(Reflecting):
    """Sees a blue apple wherever there is one."""

    def ask(self, images, prompts, question, after=None):
        return torch.tensor([0.9 if "blue" in text or text == "a photo of an apple" else 0.2 for text in prompts])


class BrightIsRight(Judges):
    """Two judges of the mean of an image; the second is more lenient."""

    def __init__(self, marks):
        super().__init__([])
        object.__setattr__(self, "marks", marks)

    def look(self, images, metadata):
        means = images.mean((1, 2, 3)).tolist()
        told = "expected red apple>=1, found 0 red; and 1 green"
        return [[Judgment(mean > mark, "" if mean > mark else told) for mean in means] for mark in self.marks]


def row(number, *corrected):
    return CorrectionsRow(number=number, metadata=METADATA, corrected=[*corrected], told="", began=1.0, ended=2.0)


def image(right, true=(), found=(), written=()):
    wrong = [Discrepancy("color", "cup", "red")]
    return {"right": right, "true": wrong if true else [], "found": wrong if found else [],
            "written": wrong if written else []}  # fmt: skip


def test_the_summary_by_hand():
    def ways(found, none):
        return {way: found if way == FOUND else none for way in LABELS}

    rows = [
        row(0, image(ways([1.0, 0.5], [0.0, 0.5]), true=[1], found=[1])),
        row(1),
        row(2, image(ways([0.5, 0.5], [0.5, 0.5]), true=[1], found=[1], written=[1]),
            image(ways([0.0, 0.5], [0.25, 0.75]), true=[1])),
    ]  # fmt: skip
    summary = analyse(rows)
    result = summary.model_dump()
    assert (result["images"], result["prompts"]) == (3, 2)
    assert result["ways"][FOUND]["right"] == [0.5, 0.5]
    assert result["ways"]["prompt_alone"]["right"] == pytest.approx([0.25, 1.75 / 3])
    assert result["ways"]["prompt_alone"]["found_minus_this"] == pytest.approx((0.5 + 0 - 0.25) / 3)
    assert result["reasons"]["found"]["recall"] == pytest.approx(2 / 3)
    assert result["reasons"]["written"]["recall"] == pytest.approx(1 / 3)
    text = table(summary)
    assert "| image alone | 0.250" in text
    assert text.count("+8.3") == len(LABELS) - 1
    # Gains .5, 0 and -.25 less their mean of 1/12 add up to 5/12 in the first prompt and to -5/12 in the other.
    error = result["ways"]["prompt_alone"]["its_standard_error"]
    assert error == pytest.approx((2 * (5 / 12) ** 2 * 2) ** 0.5 / 3)
    assert analyse([row(0)]).ways == {}
    assert "0 wrong images of 0 prompts" in table(analyse([]))


def test_the_ways_are_what_the_corrector_draws():
    generator, corrector = tiny_generator(steps=3), tiny_generator(steps=4)
    judges = BrightIsRight(marks=(2.0, 2.0))  # everything is wrong
    row = observe(
        RECIPE, 0, METADATA, Models(generator, corrector, Colors(says=[SAID] * 2), judges), "there is no cup."
    )
    assert len(row.corrected) == 2
    assert row.corrected[0].true == row.corrected[0].written
    assert row.corrected[0].true[0].found == "green"
    assert [d.found for d in row.corrected[0].found] == ["blue"]
    assert "red" in row.told
    paths = finish(generator, generator.start([METADATA.prompt], path_seeds(prompt_seed(0, METADATA.prompt), 4)))
    means = generator.preview(paths).mean((1, 2, 3))
    mark = float(means.sort().values[1:3].mean())
    judges = BrightIsRight(marks=(mark + 1e-3, mark))
    wrong = [k for k in range(4) if means[k] <= mark]
    row = observe(
        RECIPE, 0, METADATA, Models(generator, corrector, Colors(says=[SAID] * 2), judges), "there is no cup."
    )
    assert len(row.corrected) == len(wrong)
    for k, found in zip(wrong, row.corrected, strict=True):
        seeds = fork_seeds(paths.seeds[k : k + 1], 3)
        for way, told in {
            "shuffled_reasons": Correction(paths.codes[k], "there is no cup."),
            "without_reasons": Correction(paths.codes[k]),
            "prompt_alone": Correction(None),
            "written_reasons": Correction(paths.codes[k], SAID.reasons),
        }.items():
            drawn = finish(corrector, corrector.correct([METADATA.prompt], seeds, [told]))
            bright = corrector.preview(drawn).mean((1, 2, 3))
            assert found.right[way] == pytest.approx([float((bright > m).float().mean()) for m in judges.marks])


def test_of_a_prompt_that_is_not_read_the_verifier_writes():
    judges = BrightIsRight(marks=(2.0, 2.0))
    verifier = Colors(says=[SAID] * 2)
    row = observe(RECIPE, 0, UNREADABLE, Models(tiny_generator(steps=2), tiny_generator(steps=2), verifier, judges), "")
    for found in row.corrected:
        assert found.found == found.written
        assert found.right[FOUND] == found.right["written_reasons"]


@pytest.fixture
def small(monkeypatch):
    """A study of three prompts with small models; `small` says how often a generator was loaded."""
    loaded = []

    def load(name, dtype=None):
        loaded.append(name)
        return tiny_generator(steps=2)

    monkeypatch.setattr(study, "load_generator", load)
    monkeypatch.setattr(study, "load_verifier", lambda name, dtype=None: Colors(says=[SAID] * 99))
    monkeypatch.setattr(study.Known, "digests", lambda self, role, name: {f"{role} {name}": "abc"})
    monkeypatch.setattr(Judges, "load", classmethod(lambda cls, name, world=None: BrightIsRight(marks=(2.0, 2.0))))
    some = [(0, METADATA.worded(f"a photo of a {color} apple")) for color in ("red", "blue", "green")]
    monkeypatch.setattr(study, "prompts", lambda detector, per_task, world: some)
    return loaded


def test_an_interrupted_study_goes_on_and_loses_nothing(small, tmp_path, monkeypatch):
    whole = run(RECIPE.model_copy(update={"output": tmp_path / "whole"}))
    assert (whole.images, whole.prompts) == (6, 3)
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["ways"] == whole.model_dump()["ways"]
    assert "| told | right |" in (tmp_path / "whole" / "table.md").read_text()
    real, calls = study.observe, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    recipe = RECIPE.model_copy(update={"output": tmp_path / "parts"})
    monkeypatch.setattr(study, "observe", stop)
    with pytest.raises(KeyboardInterrupt):
        run(recipe)
    again = run(recipe)
    assert len(calls) == 4
    assert again.ways == whole.ways
    small.clear()
    assert run(recipe).ways == whole.ways
    assert small == []


def test_what_it_refuses(small, tmp_path, imagecot):
    with pytest.raises(UsageError, match="in one process"):
        run(RECIPE, workers=2)
    recipe = RECIPE.model_copy(update={"output": tmp_path / "s"})
    run(recipe)
    with pytest.raises(UsageError, match="paths"):
        run(recipe.model_copy(update={"paths": 5}))
    (tmp_path / "c.yaml").write_text("output: o\ngenerator: tiny\ncorrector: tiny\nverifier: tiny-orm\n")
    code, _, said = imagecot("study", str(tmp_path / "c.yaml"), "--rows", "a")
    assert code == 2
    assert "no rows to choose from" in said
