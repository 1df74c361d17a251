"""A study of other people's models and searches, named `module:Class`: what it finds is what plain loops find."""

import json
import sys
from pathlib import Path

import pytest
import torch

from imagecot.contracts.paths import finish
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.contracts.verifier import recorded
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.summary import summarize
from imagecot.images import as_saved
from imagecot.recipes import check
from imagecot.study import StudyRecipe, run
from test_study_recorded import Moody, Rows

torch.set_num_threads(1)
SIZES = [1, 2, 3, 5, 6]
MODULE = '''
from dataclasses import dataclass

from pydantic import BaseModel

from imagecot.contracts import Candidate, Choice, Detections, path_seeds
from test_study_recorded import Moody, Rows

SETTINGS = {"palette": 16}
WEIGHTS = "1"


class Weaver(Rows):
    def __init__(self):
        super().__init__(settings=dict(SETTINGS))


class Eye(Moody):
    advice = {"others:Ranked": {"place": 2}}


class Shades:
    """Who sees an apple where the first pixel is bright, and a red cup everywhere."""

    name, classes = "shades", ("apple", "cup")

    def detect(self, images):
        box = [[0.0, 0.0, 3.0, 3.0, 0.9]]
        boxes = [{"cup": box, "apple": box if float(image[0, 0, 0]) > 0.4 else []} for image in images]
        return [Detections(found, lambda name, kept, indices: ["red"] * len(indices)) for found in boxes]

    def record(self):
        return {"weights": WEIGHTS}


class Place(BaseModel):
    place: int = 1


class Ranked:
    """Draws half as many paths again as are asked for, and takes the one of a place by score."""

    Settings, needs = Place, frozenset({"verifier"})

    def paths(self, n):
        return n + n // 2

    def choose(self, run):
        candidates = run.in_groups()[::-1]
        return Choice(candidates, self._at(candidates, run.settings))

    def replay(self, recorded, settings):
        return Choice(recorded[::-1], self._at(recorded[::-1], settings))

    def _at(self, paths, settings):
        order = sorted(range(len(paths)), key=lambda k: (-paths[k].score, k))
        return order[min(settings.place, len(order)) - 1]


class Unscored(Ranked):
    """Never asks about a final image: it takes the path that is brightest after the first step."""

    Settings = type("Nothing", (BaseModel,), {})

    def paths(self, n):
        return n

    def choose(self, run):
        seeds = path_seeds(run.seed, run.n)
        candidates = [Candidate(seed) for seed in seeds.tolist()]
        paths = run.advance(run.start(seeds), candidates)
        best = max(range(run.n), key=lambda k: run.preview(paths)[k].mean())
        for k, candidate in enumerate(candidates):
            candidate.truncated_at = None if k == best else 1
        paths = paths.select([best])
        while not paths.finished:
            paths = run.advance(paths, [candidates[best]])
        candidates[best].image = run.generator.decode(paths.codes)
        run.score(paths, [candidates[best]])
        return Choice(candidates, best)

    def replay(self, recorded, settings):
        going = [path for path in recorded if path.stopped is None] or recorded
        return Choice(going, 0)


class Liar(Ranked):
    def choose(self, run):
        paths = run.start(path_seeds(run.seed + 1, 1))
        candidates = [Candidate(int(paths.seeds))]
        while not paths.finished:
            paths = run.advance(paths, candidates)
        run.score(paths, candidates)
        return Choice(candidates, 0)


class Elsewhere(Liar):
    def replay(self, recorded, settings):
        return None
'''


@pytest.fixture
def others(tmp_path, monkeypatch):
    """The folder of the module `others`, which can be imported from there."""
    (tmp_path / "others.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("others", None)


def recipe(**rows):
    values = {
        "output": "out", "n": 6, "prompts_per_task": 2, "timed_prompts": 1, "gallery": 1,
        "detector": "others:Shades", "generators": {"g": "others:Weaver"},
        "rows": {name: {"generator": "g", **row} for name, row in rows.items()},
    }  # fmt: skip
    return check(values, StudyRecipe, "recipe")


def judging(search, **options):
    return {"search": search, "verifier": "others:Eye", **options}


ROWS = {
    "baseline": {},
    "best": judging("best-of-n"),
    "advised": judging("others:Ranked"),
    "third": judging("others:Ranked", place=3),
    "early": judging("others:Unscored"),
    "own": judging("others:Elsewhere"),
    "steps": judging("stepwise"),
    "again": judging("parm++", keep=0.5),
}


def drawn(prompt, seed, count):
    """Codes of paths, and P(yes) of their images, by the models alone."""
    generator = Rows()
    codes = [finish(generator, generator.start([prompt], one[None])).codes for one in path_seeds(seed, count)]
    said = [float(Moody().ask(as_saved(generator.decode(one)), [prompt], ORM)) for one in codes]
    return torch.cat(codes), [recorded(p) for p in said]


def is_right(metadata, codes):
    """What GenEval's rules say of Shades: two of a kind are never there, and nothing is beside another."""
    names = [need["class"] for need in metadata["include"]]
    bright = float(Rows().decode(codes[None])[0, 0, 0, 0]) > 0.4
    if metadata["tag"] != "single_object":
        return False
    return names[0] == "cup" or (names[0] == "apple" and bright)


def test_what_it_finds_is_what_plain_loops_find(others, monkeypatch):
    from imagecot.geneval import prompts as known

    every = [
        {"tag": "single_object", "prompt": f"a photo of {name}", "include": [{"class": kind, "count": 1}]}
        for name, kind in (("an apple", "apple"), ("a cup", "cup"), ("one apple", "apple"))
    ]
    every += [{"tag": "counting", "prompt": "a photo of two cups", "include": [{"class": "cup", "count": 2}]}]
    monkeypatch.setattr(known, "load_benchmark_prompts", lambda: every)
    summary = run(recipe(**ROWS))
    stored = [json.loads(line) for line in Path("out/candidates/g.jsonl").read_text().splitlines()]
    assert [row["metadata"]["prompt"] for row in stored] == [every[k]["prompt"] for k in (0, 3, 1)]
    taken = {name: {n: [] for n in SIZES} for name in ("best", "advised", "third")}
    lines = {"random": {n: [] for n in SIZES}, "oracle": {n: [] for n in SIZES}}
    for row in stored:
        metadata = row["metadata"]
        codes, scores = drawn(metadata["prompt"], prompt_seed(0, metadata["prompt"]), 9)
        right = [is_right(metadata, one) for one in codes]
        assert (row["codes"], row["correct"]) == (codes.tolist(), [right])
        for name in ("best", "advised", "early"):
            found = [path["score"] for path in row["searches"][name]["paths"]]
            assert found == pytest.approx(scores[: len(found)], abs=2e-6)
        for name, place, share in (("best", 1, 1.0), ("advised", 2, 1.5), ("third", 3, 1.5)):
            order = (lambda k: k) if name == "best" else (lambda k: -k)  # of equals the first, or the last
            for n in SIZES:
                size = int(n * share)
                for first in range(0, (6 if name == "best" else 9) - size + 1, size):
                    ranks = sorted(range(first, first + size), key=lambda k: (-scores[k], order(k)))
                    taken[name][n].append(verdict(metadata, right[ranks[min(place, size) - 1]]))
            assert row["searches"][name]["chosen"] == ranks[min(place, size) - 1]
        for n in SIZES:
            for first in range(0, 9 - n + 1, n):
                lines["random"][n] += [verdict(metadata, one) for one in right[first : first + n]]
                lines["oracle"][n].append(verdict(metadata, any(right[first : first + n])))
        early = max(range(6), key=lambda k: Rows().decode(partial(codes[k]))[0].mean())
        assert row["searches"]["early"]["chosen"] == early
        for name in ("own", "steps", "again"):
            own = row["searches"][name]
            assert own["correct"] == [is_right(metadata, torch.tensor(own["codes"]))]
    for name, groups in (taken | lines).items():
        curve = {point.n: point.overall for point in summary.curves["g"][name]}
        assert curve == {n: summarize(groups[n]).overall for n in SIZES}
    assert summary.rows["advised"].overall == summarize(taken["advised"][6]).overall
    assert list(summary.curves["g"]) == ["best", "advised", "third", "early", "random", "oracle"]
    assert set(summary.reliability) == {"best", "advised", "third"}
    assert summary.steps["early"].stopped == {"1": 15, "never": 3}
    said = summary.recipe["rows"]
    assert (said["advised"]["place"], said["third"]["place"], said["again"]["first_step"]) == (2, 3, 1)
    assert all(summary.rows[name].seconds_per_image > 0 for name in ROWS)
    assert summary.rows["steps"].second_judge is None


def verdict(metadata, correct):
    return {"tag": metadata["tag"], "metadata": metadata, "correct": correct}


def partial(codes):
    """What a path shows after its first row."""
    return torch.where(torch.arange(6) < 2, codes, 0)[None]


def test_a_finished_study_is_read_back_and_other_settings_are_another_study(others, monkeypatch):
    asked = recipe(third=ROWS["third"], own=ROWS["own"]).model_copy(update={"timed_prompts": 0, "gallery": 0})
    first = run(asked)
    monkeypatch.setattr("imagecot.study.draw.observe", None)  # whatever is drawn fails
    assert run(asked).rows == first.rows
    module = sys.modules["others"]
    monkeypatch.setitem(module.SETTINGS, "palette", 8)
    with pytest.raises(UsageError, match=r"holds another study \(weights of others:Weaver"):
        run(asked)
    monkeypatch.undo()
    monkeypatch.chdir(others)
    with pytest.raises(UsageError, match="holds another study"):
        run(recipe(third=judging("others:Ranked", place=2), own=ROWS["own"]))
    # Judges that changed look again; of images whose codes nobody kept they cannot.
    monkeypatch.setattr(module, "WEIGHTS", "2")
    assert run(asked).rows == first.rows
    file = Path("out/candidates/g.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["judges"][0]["weights"] for row in rows} == {"2"}
    for row in rows:
        del row["searches"]["own"]["codes"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(module, "WEIGHTS", "3")
    with pytest.raises(ImagecotError, match="keeps no codes; delete"):
        run(asked)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (judging("others:Ranked", plaec=2), "rows.r.plaec is not a known key"),
        (judging("others:Ranked", place="x"), "rows.r.place: input should be a valid integer"),
        ({"search": "others:Ranked"}, "others:Ranked needs a verifier"),
        (judging("others:Nothing"), "others has no 'Nothing'"),
        (judging("others:Eye"), "others:Eye is no search: it has no Settings"),
    ],
)
def test_rows_that_cannot_be(others, row, told):
    with pytest.raises(UsageError) as refused:
        recipe(r=row)
    assert told in str(refused.value)


def test_what_models_or_a_search_cannot_do_is_told_in_a_sentence(others):
    small = {"timed_prompts": 0, "gallery": 0, "prompts_per_task": 1}
    late = recipe(r=judging("parm", first_step=7)).model_copy(update=small)
    with pytest.raises(UsageError, match=r"rows\.r: the options of parm cannot be: first_step: it must be from 1 to 2"):
        run(late)
    assert not Path("out").exists()
    with pytest.raises(ImagecotError, match="others:Liar chose a path that it drew itself"):
        run(recipe(r=judging("others:Liar")).model_copy(update=small))
