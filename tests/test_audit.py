"""An audit of partial verdicts: hand-worked numbers, rows redone by hand, every fill, and the command line."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from imagecot.checks.toys import ToyVerifier
from imagecot.contracts.generator import fill_of
from imagecot.contracts.paths import states
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators import load_generator
from imagecot.geneval.prompts import single_object_metadata
from imagecot.images import as_saved
from imagecot.statistics.clustered import jackknife_error, mean_error
from imagecot.statistics.correlation import correlation, pairs_in_order, rank_correlation
from imagecot.study.audit import AuditRecipe, Models, load, misfit, observe
from imagecot.study.audit_table import analyse, figure, predicts, table
from imagecot.study.models import Judges
from imagecot.study.rows import AuditRow
from small_models import write_janus
from test_curation import Bright
from test_fill import Repeating

torch.set_num_threads(1)
RECIPE = AuditRecipe(output="x", generator="g", verifiers=["v"], paths=4)
METADATA = [single_object_metadata(name) for name in ("apple", "cup", "chair")]


@dataclass
class Filled(Repeating):
    """What is not drawn is black, or as bright as it can be."""

    def adjusted(self, **settings):
        return replace(self, **settings)

    def preview(self, paths):
        images = super().preview(paths).clone()
        if self.fill == "white":
            images[:, :, 2 * paths.step :] = 1.0
        return images


class Mute(Filled):
    """One that cannot be told another fill."""

    adjusted = None


def models(generator, fills=()) -> Models:
    views = [generator.adjusted(fill=fill) for fill in fills] or [generator]
    return Models(generator, views, {"v": ToyVerifier()}, Judges([Bright(0.5)]), frozenset({1, 4}))


def test_correlations_by_hand():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [1, 100, 10, 1000]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 2], [5, 5, 0]) == pytest.approx(-1)
    assert correlation([1, 1], [0, 1]) != correlation([1, 1], [0, 1])  # NaN
    assert pairs_in_order([0.9, 0.1, 0.5, 0.5, 0.2], [True, False, True, False, True], "aabbc") == [(1, 1), (0.5, 1)]


def test_the_jackknife_of_a_mean_is_its_error():
    values, clusters = np.array([1.0, 2.0, 4.0, 9.0, 5.0, 3.0]), [0, 0, 1, 1, 2, 2]
    found = jackknife_error(lambda part: float(values[part].mean()), clusters)
    assert found == pytest.approx(mean_error(values, clusters))
    assert jackknife_error(lambda part: 1.0, [0, 0]) is None
    assert jackknife_error(lambda part: float("nan"), [0, 1]) is None
    # Of more clusters than groups the error is about the same.
    many = np.random.default_rng(0).normal(size=3000)
    dealt = jackknife_error(lambda part: float(many[part].mean()), list(range(3000)))
    assert dealt == pytest.approx(1 / 3000**0.5, rel=0.2)


def test_what_a_verdict_predicts_by_hand():
    """Two prompts of four paths: one ordered rightly, one half so; a third one without any right path."""
    p_yes = [0.9, 0.8, 0.2, 0.1, 0.4, 0.6, 0.5, 0.3, 0.9, 0.9, 0.9, 0.9]
    correct = [True, True, False, False, True, False, True, False] + 4 * [False]
    found = predicts(p_yes, correct, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    # Of 4 and 4 pairs 4 and 2 are in order; the better half has 2 of 2 and 1 of 2 right images.
    assert found.auroc_within.value == pytest.approx(6 / 8)
    assert found.kept.value == pytest.approx(3 / 4)
    assert found.auroc.value == pytest.approx(
        np.mean([[(a > b) + (a == b) / 2 for b, no in zip(p_yes, correct, strict=True) if not no]
                 for a, yes in zip(p_yes, correct, strict=True) if yes])
    )  # fmt: skip
    assert found.point_biserial.value == pytest.approx(np.corrcoef(p_yes, correct)[0, 1])
    assert found.auroc.standard_error > 0
    nobody = predicts(p_yes[:4], [False] * 4, [0] * 4)
    assert (nobody.auroc.value, nobody.auroc_within.value, nobody.kept.value) == (None, None, None)


@torch.no_grad()
def test_a_row_is_what_was_said_of_each_preview():
    generator, verifier = Filled(), ToyVerifier()
    row = observe(RECIPE, 7, METADATA[0], models(generator, ("black", "white")))
    prompt = METADATA[0].prompt
    start = generator.start([prompt], path_seeds(prompt_seed(0, prompt), 4))
    expected = []
    for paths in states(generator, start):
        if paths.step in (1, 4):
            for fill in ("black", "white"):
                view = replace(generator, fill=fill)
                images = as_saved(view.preview(paths))
                clarity, after = verifier.begin(images, [prompt], CLARITY)
                potential = verifier.ask(images, [prompt], POTENTIAL, after)
                said = {"clarity": clarity, "potential": potential, "orm": verifier.ask(images, [prompt], ORM)}
                expected.append((paths.step, fill_of(view, paths.step), said))
    assert [(seen.step, seen.fill) for seen in row.seen] == [(step, fill) for step, fill, _ in expected]
    for seen, (_, _, said) in zip(row.seen, expected, strict=True):
        for name, answers in said.items():
            assert seen.answers["v"][name] == pytest.approx(answers.tolist(), abs=1e-6)
    images = as_saved(generator.decode(paths.codes))
    assert row.final["v"] == pytest.approx(verifier.ask(images, [prompt], ORM).tolist(), abs=1e-6)
    assert row.steps == 8
    assert AuditRow.model_validate_json(json.dumps(row.as_json())) == row


def test_a_janus_is_seen_in_every_fill(tmp_path):
    """Its previews differ by fill and its final images do not."""
    generator = load_generator(write_janus(tmp_path, side=3))
    made = replace(models(generator, ("blank", "repeat", "draft")), steps=frozenset({2}))
    row = observe(RECIPE, 0, METADATA[0], made)
    assert [(seen.step, seen.fill) for seen in row.seen] == [(2, "blank"), (2, "repeat"), (2, "draft")]
    assert len({tuple(seen.answers["v"]["orm"]) for seen in row.seen}) == 3
    alone = observe(RECIPE, 0, METADATA[0], replace(made, views=[generator.adjusted(fill="draft")]))
    assert alone.final == row.final
    assert alone.seen[0].answers == row.seen[2].answers


def test_the_numbers_of_an_audit():
    made = models(Filled(), ("black", "white"))
    made = replace(made, judges=Judges([Bright(0.5), Bright(0.55)]))
    rows = [observe(RECIPE, k, metadata, made) for k, metadata in enumerate(METADATA)]
    summary = analyse(rows)
    assert (summary.prompts, summary.paths, summary.steps, len(summary.right)) == (3, 4, 8, 2)
    places = [(one.question, one.fill, one.step) for one in summary.partials]
    previews = [(q, f, s) for q in ("clarity", "potential", "orm") for f in ("black", "white") for s in (1, 4)]
    assert places == [*previews, ("orm", None, 8)]
    right = [sum(row.correct[0]) for row in rows]
    assert summary.most_kept[0] == pytest.approx(sum(min(2, k) for k in right) / sum(right))
    last = summary.partials[-1]
    assert last.final.value == pytest.approx(1)
    assert len(last.judges) == 2
    p_yes = [p for row in rows for p in row.seen[3].answers["v"]["orm"]]  # step 4, white
    one = summary.partials[places.index(("orm", "white", 4))]
    assert one.mean_p == pytest.approx(np.mean(p_yes))
    assert one.yes == pytest.approx(np.mean(np.array(p_yes) >= 0.5))
    correct = [right for row in rows for right in row.correct[1]]
    assert one.judges[1] == predicts(p_yes, correct, [0] * 4 + [1] * 4 + [2] * 4)
    text = table(summary)
    assert text.count("\n| v, ") == len(places)
    assert "| v, orm | white | 4 |" in text
    assert figure(summary)[:4] == b"\x89PNG"


def test_rows_of_another_audit_are_told(monkeypatch):
    monkeypatch.setattr("imagecot.study.audit.find.judges_of", lambda *of: ["bright"])
    row = observe(RECIPE, 0, METADATA[0], models(Filled()))
    asked = dict(enumerate(METADATA))
    assert misfit(RECIPE, asked, row) is None
    assert "prompt 0" in misfit(RECIPE, {0: METADATA[1]}, row)
    for changes, told in (
        ({"paths": 5}, "correct is not of 1 judges and 5 paths"),
        ({"verifiers": ["w"]}, "final is not of w"),
        ({"questions": ["orm"]}, "seen.0.answers is not of orm"),
    ):
        assert misfit(RECIPE.model_copy(update=changes), asked, row) == told
    with pytest.raises(ValueError, match="not of equally many paths"):
        AuditRow.model_validate({**row.model_dump(), "final": {"v": [0.5]}})
    with pytest.raises(ValueError, match="no step before"):
        AuditRow.model_validate({**row.model_dump(), "steps": 4})


@pytest.mark.parametrize(
    ("generator", "changes", "told"),
    [
        (Filled, {"steps": [2, 8]}, "previews are those of steps from 1 to 7"),
        (Mute, {"fills": ["black"]}, "cannot be completed in several ways; leave out fills"),
    ],
)
def test_what_a_generator_has_not_is_refused(monkeypatch, generator, changes, told):
    monkeypatch.setattr("imagecot.study.audit.load_generator", lambda name, **how: generator())
    with pytest.raises(UsageError, match=told):
        load(RECIPE.model_copy(update=changes))


def test_a_recipe_says_nothing_twice():
    for name, values in (("verifiers", ["v", "v"]), ("questions", ["orm", "orm"]), ("fills", ["draft", "draft"])):
        with pytest.raises(ValueError, match=f"{name}: {values[0]} is there twice"):
            AuditRecipe(**{"output": "x", "generator": "g", "verifiers": ["v"], name: values})


MODULE = """
from imagecot.checks.toys import ToyVerifier
from test_audit import Filled


class Stopped(ToyVerifier):
    left = 5

    def ask(self, *asked):
        Stopped.left -= 1
        if not Stopped.left:
            raise RuntimeError("no more")
        return super().ask(*asked)
"""


def test_the_command_resumes(imagecot, tmp_path, monkeypatch):
    (tmp_path / "audited.py").write_text(MODULE)
    (tmp_path / "audit.yaml").write_text(
        "kind: audit\noutput: out\ngenerator: audited:Filled\nverifiers: [audited:Stopped]\nquestions: [orm]\n"
        "prompts_per_task: 1\npaths: 2\nsteps: [3]\nfills: [black, white]\n"
    )
    code, _, err = imagecot("study", "audit.yaml")
    assert code == 1, err
    assert "no more" in err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["prompts"] == 1
    first = (tmp_path / "out" / "previews.jsonl").read_text()
    code, out, err = imagecot("study", "audit.yaml")
    assert code == 0, err
    assert "out/table.md" in out
    text = (tmp_path / "out" / "previews.jsonl").read_text()
    assert text.startswith(first)
    assert text.count("\n") == 6
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["prompts"] == 6
    assert (tmp_path / "out" / "audit.png").read_bytes()[:4] == b"\x89PNG"
    code, _, err = imagecot("study", "audit.yaml", "paths=3")
    assert code == 2
    assert "paths" in err
    for more, told in ((("--workers", "2"), "one process"), (("--rows", "a"), "no rows")):
        code, _, err = imagecot("study", "audit.yaml", *more)
        assert code == 2
        assert told in err


def test_damage_is_told(imagecot, tmp_path):
    (tmp_path / "audited.py").write_text(MODULE)
    (tmp_path / "audit.yaml").write_text(
        "kind: audit\noutput: out\ngenerator: audited:Filled\nverifiers: [imagecot.checks.toys:ToyVerifier]\n"
        "questions: [orm]\nprompts_per_task: 1\npaths: 2\nsteps: [3]\n"
    )
    code, _, err = imagecot("study", "audit.yaml")
    assert code == 0, err
    file = tmp_path / "out" / "previews.jsonl"
    file.write_text(file.read_text().replace('"step": 3', '"step": 9', 1))
    code, _, err = imagecot("study", "audit.yaml")
    assert code == 1, err
    assert "line 1 of out/previews.jsonl" in err
    assert issubclass(UsageError, ImagecotError)
