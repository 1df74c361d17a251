"""The study: choices and tables worked by hand, replayed searches equal to real ones, recipes, timing."""

import json
from itertools import chain
from pathlib import Path

import pytest
import torch

from imagecot.errors import ImagecotError, UsageError
from imagecot.recipes import check, read_yaml
from imagecot.study import timing
from imagecot.study.analysis import analyse
from imagecot.study.choices import judged, replayed
from imagecot.study.conclude import busy
from imagecot.study.draw import weight
from imagecot.study.models import Models
from imagecot.study.recipe import StudyRecipe, due, prompts, units
from imagecot.study.rows import Numbered, Outcome, PathRow, PoolRow, TimingRow
from imagecot.study.store import Store
from small_models import Brightness, Flat

torch.set_num_threads(1)
RECIPES = Path(__file__).parent.parent / "recipes" / "study"


def path(score: float | None, stopped: int | None = None, potential: float | None = None) -> dict:
    return {"score": score, "stopped": stopped, "first_clear": stopped, "potential": potential}


def cost(judge_calls: int) -> dict:
    return {"generator_rows": 0, "previews": 0, "judge_calls": judge_calls, "tokens_judged": 0}


def observed(
    number: int, tag: str, scores: list[float], correct: list[bool], parm: list[dict] | None = None, **more
) -> PoolRow:
    """A row of the store: the second judge says of the paths what the first says of them in reverse order."""
    orm = [path(score) for score in scores]
    parm = parm or orm
    ranks = [p["score"] if p["stopped"] is None else -1.0 for p in parm]
    return PoolRow(
        number=number, metadata={"tag": tag, "prompt": f"{tag} {number}"}, began=1.0, ended=2.0,
        correct=[correct, correct[::-1]], reasons=[""] * len(correct),
        searches={
            "baseline": {"paths": [path(None)], "chosen": 0, "cost": cost(0)},
            "orm": {"paths": orm, "chosen": scores.index(max(scores)), "cost": cost(4)},
            "parm": {"paths": parm, "chosen": ranks.index(max(ranks)), "cost": cost(number)},
            **more,
        },
    )  # fmt: skip


def own(*correct: bool) -> dict:
    return {"paths": [path(0.5)], "chosen": 0, "cost": cost(9), "correct": list(correct)}


BASE = [
    observed(0, "single_object", [0.1, 0.9, 0.2, 0.3], [True, False, False, True], prm=own(True, False)),
    observed(1, "counting", [0.2, 0.4, 0.6, 0.1], [False, False, True, False],
             [path(None, 3, 0.4), path(None, 5, 0.45), path(0.7), path(None, 2, 0.1)], prm=own(False, False)),
    observed(2, "single_object", [0.5, 0.5, 0.8, 0.1], [False, True, True, False]),
    observed(3, "counting", [0.9, 0.4, 0.6, 0.1], [False, False, False, False]),
]  # fmt: skip
OTHER = [
    PoolRow(number=k, metadata=row.metadata, correct=[[k != 2], [True]], reasons=[""], began=1.0, ended=2.0,
            searches={"dpo": {"paths": [path(None)], "chosen": 0, "cost": cost(0)}})
    for k, row in enumerate(BASE[:3])
]  # fmt: skip
RECIPE = StudyRecipe(
    output="x", n=4, prompts_per_task=2, gallery=1, generators={"base": "tiny", "other": "tiny"},
    rows={
        "baseline": {"generator": "base"},
        "orm": {"generator": "base", "search": "best-of-n", "verifier": "v", "label": "ORM"},
        "parm": {"generator": "base", "search": "parm", "verifier": "p"},
        "prm": {"generator": "base", "search": "stepwise", "verifier": "v", "prompts_per_task": 1},
        "dpo": {"generator": "other"},
    },
)  # fmt: skip


@pytest.fixture
def result(monkeypatch):
    monkeypatch.setattr(
        "imagecot.study.recipe._benchmark",
        lambda detector, world: [row.metadata for row in (*BASE[::2], *BASE[1::2])],
    )
    found = analyse(RECIPE, {"base": BASE, "other": OTHER}, {"orm": {4: 2.0, 2: 1.5}, "baseline": {1: 0.5}})
    return found.model_dump()


def verdicts(name: str, n: int, judge: int = 0) -> list[bool]:
    return [row.correct for row in judged(BASE, name, RECIPE.rows.get(name), n, judge)]


def test_choices_by_hand():
    paths = BASE[1].searches["parm"].paths
    parm, best = RECIPE.rows["parm"].how, RECIPE.rows["orm"].how
    assert replayed(paths, parm, 4) == [2]
    assert replayed(paths, parm, 2) == [1, 2]  # of the first two none is left: the least refused
    equal = [PathRow(**path(score)) for score in (0.5, 0.5, 0.6)]
    assert replayed(equal, best, 2) == [0]  # the third is in no group of two
    kept = RECIPE.rows["parm"].model_copy(update={"keep": 0.5}).how
    scored = [
        PathRow(score=score, stopped=None, first_clear=3, potential=p)
        for score, p in ((0.9, 0.1), (0.3, 0.4), (0.5, 0.3))
    ]
    assert replayed(scored, kept, 3) == [2]  # of three two run on, those with most potential
    assert replayed(scored, kept, 2) == [1]
    assert replayed(scored, kept, 1) == [0, 1, 2]


def test_what_a_search_is_for_a_study_it_says_itself():
    hows = {name: row.how for name, row in RECIPE.rows.items()}
    assert [name for name, how in hows.items() if how.replayed] == ["baseline", "orm", "parm", "dpo"]
    assert [name for name, how in hows.items() if how.chooses] == ["orm", "parm"]
    assert [name for name, how in hows.items() if how.stops] == ["parm"]
    assert [hows[name].sizes(4) for name in ("baseline", "orm", "prm")] == [[1], [1, 2, 3, 4], [4]]
    assert (RECIPE.pool("base"), RECIPE.pool("other")) == (4, 1)


def test_verdicts_by_hand():
    assert verdicts("orm", 4) == [False, True, True, False]
    assert verdicts("oracle", 4) == [True, True, True, False]
    each = [[True, False, False, True], [False, False, True, False], [False, True, True, False], [False] * 4]
    assert verdicts("baseline", 4) == verdicts("baseline", 1) == [*chain(*each)]  # every recorded path is a single one
    # groups of two: (.1 .9)(.2 .3), (.2 .4)(.6 .1), (.5 .5: the earlier)(.8 .1), (.9 .4)(.6 .1)
    assert verdicts("orm", 2) == [False, True, False, True, False, True, False, False]
    assert verdicts("orm", 3) == [False, True, True, False]  # the fourth path is in no group of three
    assert len(verdicts("random", 4)) == 16
    assert verdicts("baseline", 4, judge=1) == [*chain(*(correct[::-1] for correct in each))]
    assert verdicts("orm", 4, judge=1) == [False, False, True, False]
    assert verdicts("prm", 4) == [True, False]  # of the two prompts that it was drawn for


def test_the_table_by_hand(result):
    rows = result["rows"]
    assert {name: row["prompts"] for name, row in rows.items()} == {
        "baseline": 4, "orm": 4, "parm": 4, "prm": 2, "dpo": 3, "random@base": 4, "oracle@base": 4
    }  # fmt: skip
    assert rows["baseline"]["overall"] == rows["random@base"]["overall"]
    assert rows["baseline"]["n"] == 1
    assert rows["baseline"]["seconds_per_image"] == rows["random@base"]["seconds_per_image"] == 0.5
    assert rows["random@base"]["overall"] == pytest.approx((4 / 8 + 1 / 8) / 2)
    assert rows["orm"]["overall"] == 0.5
    assert rows["orm"]["second_judge"]["tasks"] == {"single_object": 0.5, "counting": 0.0}
    # of the choices of two tasks: one right, one wrong; one on which the judges differ, one wrong
    assert rows["orm"]["told"] == {"right": 0.25, "untold": 0.25, "wrong": 0.5}
    assert rows["orm"]["atoms"] is None  # these rows do not tell them
    assert {row["draws"] for row in rows.values()} == {1}
    assert rows["orm"]["seconds_per_image"] == 2.0
    assert rows["orm"]["label"] == "ORM"
    assert rows["parm"]["label"] == "PARM"
    assert rows["parm"]["cost"] == cost(1.5)
    assert rows["prm"]["overall"] == 0.5
    assert rows["prm"]["seconds_per_image"] is None
    assert rows["dpo"]["tasks"] == {"single_object": 0.5, "counting": 1.0}
    assert rows["oracle@base"]["tasks"] == {"single_object": 1.0, "counting": 0.5}
    # standard error of (1, 0) in one task is 1/2 of sqrt(2 * 2 * .25), and of the mean of two tasks a half of both
    assert rows["orm"]["tasks_se"]["counting"] == pytest.approx(0.5)
    assert rows["orm"]["overall_se"] == pytest.approx(0.5**0.5 / 2)
    assert result["agreement"] == {"base": pytest.approx((4 + 2 + 4 + 4) / 16)}


def test_the_curves_by_hand(result):
    (key,) = result["curves"]
    lines = result["curves"][key]
    assert key == "base"
    assert list(lines) == ["orm", "parm", "random", "oracle"]
    assert [p["n"] for p in lines["orm"]] == [1, 2, 3, 4]
    assert [p["overall"] for p in lines["orm"]] == [5 / 16, 3 / 8, 0.5, 0.5]
    assert [p["seconds"] for p in lines["orm"]] == [None, 1.5, None, 2.0]
    assert [p["overall"] for p in lines["oracle"]] == [5 / 16, (1 + 0.25) / 2, 0.75, 0.75]
    assert lines["random"][3]["second"] == 5 / 16
    assert lines["orm"][3]["second"] == 0.25


def test_comparisons_are_paired(result):
    gains = {(gain["a"], gain["b"]): gain for gain in result["comparisons"]}
    assert set(gains) == {
        ("orm", "baseline"), ("parm", "baseline"), ("prm", "baseline"), ("dpo", "baseline"),
        ("parm", "orm"), ("prm", "orm"), ("prm", "parm"),
    }  # fmt: skip
    gain = gains["orm", "baseline"]
    # of the baseline all paths of a prompt: less .5 and plus .5 of one task, plus .75 and 0 of the other
    assert (gain["difference"], gain["prompts"]) == (0.1875, 4)
    assert gain["only_a"] is None and gain["p_value"] is None
    assert gain["second_judge"]["difference"] == -0.0625
    # one choice a prompt on both sides is compared image by image
    gain = gains["parm", "orm"]
    assert (gain["difference"], gain["only_a"], gain["only_b"], gain["prompts"]) == (0.0, 0, 0, 4)
    # of the prompts that both have: dpo yes, yes, no; of the baseline .5, .25, .5
    assert gains["dpo", "baseline"]["difference"] == pytest.approx(0.375)
    assert gains["dpo", "baseline"]["prompts"] == 3
    assert gains["prm", "baseline"]["difference"] == 0.125


def test_reliability_by_hand(result):
    found = result["reliability"]["orm"]
    assert set(result["reliability"]) == {"orm"}
    assert found["paths"] == 16
    assert found["verifier"] == "v"
    assert [(b["count"], b["right"]) for b in found["bins"]] == [
        (4, 0.25), (2, 0.0), (1, 1.0), (2, 0.0), (2, 0.5), (2, 0.5), (1, 1.0), (2, 0.0)
    ]  # fmt: skip
    assert [b["mean_p"] for b in found["bins"]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9])
    # said yes at .5: of 5 right .5 .8 .6, of 11 wrong .9 .5 .9 .6
    assert found["balanced_accuracy"] == pytest.approx((3 / 5 + 7 / 11) / 2)
    off = 4 * 0.15 + 2 * 0.2 + 0.7 + 2 * 0.4 + 0 + 2 * 0.1 + 0.2 + 2 * 0.9
    assert found["ece"] == pytest.approx(off / 16)


def test_steps_of_parm_by_hand(result):
    used = result["steps"]["parm"]
    assert used["stopped"] == {"never": 13, "3": 1, "5": 1, "2": 1}
    assert used["right_of_stopped"] == 0
    assert used["right_of_kept"] == pytest.approx(5 / 13)


def test_the_gallery_holds_what_each_row_chose(result):
    first, second = result["gallery"]
    assert first["tag"] == "single_object"
    assert first["images"]["parm"] == "gallery/000-parm.png"
    assert first["correct"] == {
        "baseline": [True, True], "orm": [False, False], "parm": [False, False], "prm": [True, False],
        "dpo": [True, True],
    }  # fmt: skip
    assert second["correct"]["orm"] == [True, False]


def test_a_study_without_results_yet_has_no_rows(result):
    empty = analyse(RECIPE, {"base": [], "other": OTHER}, {})
    assert list(empty.rows) == ["dpo"]
    assert empty.curves == empty.agreement == {}


def test_one_judge_is_enough(result):
    alone = [row.model_copy(update={"correct": row.correct[:1]}) for row in OTHER]
    found = analyse(RECIPE, {"base": [], "other": alone}, {})
    assert found.rows["dpo"].second_judge is None
    assert found.rows["dpo"].told is None


def test_prompts_that_are_drawn_again_count_once_as_prompts(result):
    """A second draw has the same values: scores stay, errors are those of as many prompts."""
    again = [row.model_copy(update={"number": row.number + 4}) for row in BASE]
    found = analyse(RECIPE.model_copy(update={"draws": 2}), {"base": [*BASE, *again], "other": OTHER}, {})
    row = found.rows["orm"]
    assert (row.prompts, row.draws) == (4, 2)
    assert row.overall == result["rows"]["orm"]["overall"]
    assert row.overall_se == pytest.approx(result["rows"]["orm"]["overall_se"])
    (gain,) = [gain for gain in found.comparisons if (gain.a, gain.b) == ("dpo", "baseline")]
    assert gain.prompts == 3
    assert len(found.gallery) == 2


def test_parts_that_are_right_by_hand(result):
    told = [[0.5, 1, 0, 0.5], [0, 0, 1, 0.25], [1, 1, 1, 0], [0.25] * 4]
    mine = {"prm": own(True, False) | {"atoms": [0.75, 0.5]}}
    rows = [
        row.model_copy(
            update={
                "atoms": [found, found[::-1]],
                "searches": {**row.searches, **({k: Outcome(**v) for k, v in mine.items()} if row.number < 2 else {})},
            }
        )
        for row, found in zip(BASE, told, strict=True)
    ]
    found = analyse(RECIPE, {"base": rows, "other": []}, {}).rows
    # single_object: prompts 0 and 2, counting: 1 and 3; the ORM chooses the paths 1, 2, 2, 0
    assert found["orm"].atoms.tasks == {"single_object": 1.0, "counting": (1 + 0.25) / 2}
    assert found["orm"].atoms.overall == pytest.approx((1 + 0.625) / 2)
    assert found["orm"].atoms.overall_se == pytest.approx((0.75 / 2) / 2)
    assert found["baseline"].atoms.tasks == {"single_object": (2 + 3) / 8, "counting": (1.25 + 1) / 8}
    assert found["oracle@base"].atoms.tasks == {"single_object": 1.0, "counting": (1 + 0.25) / 2}
    assert found["prm"].atoms.overall == 0.75


def test_prompts_take_turns_by_task():
    found = prompts("pictograms", 2)
    assert [rank for rank, _ in found] == [0] * 6 + [1] * 6
    assert len({metadata.tag for _, metadata in found[:6]}) == 6
    work = list(units(RECIPE))
    assert [unit.generator for unit in work] == ["base"] * 12 + ["other"] * 12
    assert "prm" in due(RECIPE, work[5])
    assert "prm" not in due(RECIPE, work[6])
    assert [weight(RECIPE, work[k]) for k in (5, 6)] == [2, 1]
    twice = list(units(RECIPE.model_copy(update={"draws": 2, "seed": 7})))
    assert [unit.number for unit in twice if unit.generator == "base"] == list(range(24))
    first, second = twice[3], twice[15]
    assert (first.metadata, first.rank, first.seed, first.draw) == (second.metadata, 0, 7, 0)
    assert (second.rank, second.seed, second.draw) == (0, 8, 1)
    assert first.shown(1) and not second.shown(1)
    assert len(prompts("facebook/mask2former", 100)) == 80 + 99 + 80 + 94 + 100 + 100


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"generator": "none"}, "'none' is none of a"),
        ({"generator": "a", "search": "best-of-n"}, "best-of-n needs a verifier"),
        ({"generator": "a", "verifier": "v"}, "single has no verifier"),
        ({"generator": "a", "search": "stepwise", "verifier": "v", "first_step": 3}, "r.first_step is not a known key"),
        ({"generator": "a", "search": "parm", "verifier": "v", "keep": 1.5}, "rows.r.keep: input should be less than"),
        ({"generator": "a", "search": "parn", "verifier": "v"}, "rows.r.search: there is no search 'parn'"),
        ({"generator": "a", "search": "no.module:Search"}, "there is no module 'no'"),
        ({"generator": "a", "search": "parm", "verifier": "v", "corrector": "a"}, "parm corrects nothing"),
    ],
)
def test_rows_that_make_no_sense_are_refused(row, told):
    values = {"output": "x", "generators": {"a": "tiny"}, "rows": {"r": row}}
    with pytest.raises(UsageError) as refused:
        check(values, StudyRecipe, "recipe")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "file", [RECIPES / f"{name}.yaml" for name in ("tiny", "quick", "show-o")], ids=lambda f: f.stem
)
def test_shipped_studies_have_the_rows_of_the_paper(file):
    recipe = check(read_yaml(file), StudyRecipe, file.name)
    paper = json.loads((RECIPES.parents[1] / "src/imagecot/report/paper.json").read_text())["show_o"]
    assert set(paper) <= set(recipe.rows)
    assert set(recipe.generators) == {row.generator for row in recipe.rows.values()}


def test_a_row_that_says_nothing_is_searched_as_its_verifier_advises():
    """It is the same in a recipe as everywhere; what is said goes before."""
    asked = check(read_yaml(RECIPES / "tiny.yaml"), StudyRecipe, "tiny")
    said = asked.resolved()
    rows = {name: row.how.settings.model_dump() for name, row in said.rows.items()}
    assert rows["parm"] == rows["parm+dpo"] == {"first_step": 6, "keep": 0.4}
    assert rows["parm_every_no_stops"] == {"first_step": 6, "keep": 0.0}
    assert rows["parm_from_step_1"] == {"first_step": 1, "keep": 0.0}
    assert rows["baseline"] == rows["prm_fine_tuned"] == {}
    assert said.self_correction.options == {"first_step": 6, "keep": 0.4}
    # As earlier versions kept it of rows that said so: what differs from the paper.
    base = {"generator": "baseline", "search": "parm", "verifier": "tiny-parm"}
    assert said.rows["parm"].identity == {**base, "first_step": 6, "keep": 0.4}
    assert said.rows["parm_from_step_1"].identity == base
    assert said.rows["baseline"].identity == {"generator": "baseline"}
    released = check(read_yaml(RECIPES / "show-o.yaml"), StudyRecipe, "show-o").resolved()
    assert {row.how.settings.keep for row in released.rows.values() if row.search == "parm"} == {0.0}
    assert released.self_correction.options == {"first_step": 1, "keep": 0.0}


def test_who_corrects_is_what_the_generator_brings_along():
    values = {"output": "x", "generators": {"a": "tiny", "b": "tiny-self-correct"}, "rows": {}}
    row = {"search": "parm++", "verifier": "tiny-parm++"}
    values["rows"] = {"a": {**row, "generator": "a"}, "b": {**row, "generator": "b"},
                      "c": {**row, "generator": "b", "corrector": "tiny"}, "d": {"generator": "a"}}  # fmt: skip
    said = check(values, StudyRecipe, "recipe").resolved()
    correctors = [row.corrector for row in said.rows.values()]
    assert correctors == ["tiny-self-correct", None, "tiny", None]
    assert said.rows["a"].how.settings.model_dump() == {"first_step": 6, "keep": 0.4}
    assert said.rows["a"].options == {}  # a request takes them from the verifier, as far as they fit the generator


def test_some_rows_alone_are_a_study():
    whole = check(read_yaml(RECIPES / "tiny.yaml"), StudyRecipe, "tiny")
    part = whole.only(["baseline", "parm+dpo"])
    assert list(part.rows) == ["baseline", "parm+dpo"]
    assert part.generators == {"baseline": "tiny", "dpo": "tiny-dpo"}
    assert (part.n, part.self_correction) == (whole.n, None)
    with pytest.raises(UsageError, match="no row 'parn' in this study; it has baseline, "):
        whole.only(["parn"])


def test_rows_are_kept_whole_and_in_order(tmp_path):
    store = Store(tmp_path / "c", "base", Numbered)
    assert store.rows() == []
    for number in (2, 0):
        store.keep(Numbered(number=number))
    assert [row.number for row in store.rows()] == [0, 2]
    store.fold()
    assert store.file.read_text() == '{"number": 0}\n{"number": 2}\n'
    store.keep(Numbered(number=1))
    assert store.part(1).is_file()
    assert store.numbers() == {0, 1, 2}
    # Killed after the file was written and before the parts were removed: nothing counts twice.
    store.file.write_text('{"number": 0}\n{"number": 1}\n{"number": 2}\n')
    store.fold()
    assert [row.number for row in Store(tmp_path / "c", "base", Numbered).rows()] == [0, 1, 2]
    store.file.write_text("{")
    with pytest.raises(ImagecotError, match=r"line 1 of .*base\.jsonl is not valid JSON"):
        store.rows()


def test_time_under_way_counts_once():
    spans = [(0, 2), (1, 3), (10, 11), (10.5, 10.75)]
    measured = [
        TimingRow(name="x", n=1, prompt="", seconds=0.0, began=float(began), ended=float(ended))
        for began, ended in spans
    ]
    assert busy(measured) == 4
    assert busy([]) == 0


def test_a_measurement_is_not_repeated(tmp_path, monkeypatch):
    file, ran = tmp_path / "timing.jsonl", []
    real = timing.carry_out_many

    def counted(requests):
        ran.extend((request.prompt, request.name, request.n) for request in requests)
        if len(ran) == 6:
            raise KeyboardInterrupt
        return real(requests)

    monkeypatch.setattr(timing, "carry_out_many", counted)
    models = Models(Flat(), {"v": Brightness()})
    searches = [timing.Timed("one", "single", None, [1]), timing.Timed("best", "best-of-n", "v", [1, 3])]
    todo = timing.missing(file, searches, ["a", "b"])
    assert [(prompt, n, one.name) for prompt, n, one in todo] == [
        (prompt, n, name) for prompt in "ab" for n, name in ((1, "one"), (1, "best"), (3, "best"))
    ]
    with pytest.raises(KeyboardInterrupt):
        timing.measure(file, todo, models, 0, lambda: None)
    again = timing.missing(file, searches, ["a", "b"])
    assert again == todo[3:]  # two warm-ups, then three that count
    timing.measure(file, again, models, 0, lambda: None)
    assert timing.missing(file, searches, ["a", "b"]) == []
    rows = timing.read(file)
    assert len(rows) == 6
    means = timing.means([TimingRow(name="x", n=2, prompt="", seconds=s, began=0.0, ended=s) for s in (1.0, 3.0)])
    assert means == {"x": {2: 2.0}}


def test_prompts_are_timed_together(tmp_path, monkeypatch):
    """Three prompts, two at once: each has a row of its own, whose counts are those of its search alone."""
    file, ran = tmp_path / "timing.jsonl", []
    real = timing.carry_out_many

    def counted(requests):
        ran.append([request.prompt for request in requests])
        return real(requests)

    monkeypatch.setattr(timing, "carry_out_many", counted)
    models = Models(Flat(), {"v": Brightness()})
    searches = [timing.Timed("best", "best-of-n", "v", [1, 3], at_once=2)]
    todo = timing.missing(file, searches, ["a", "b", "c"])
    timing.measure(file, todo, models, 0, lambda: None)
    assert ran == [["a"], ["a", "b"], ["a", "b"], ["c"], ["c"]]  # the first is to warm up
    rows = timing.read(file)
    assert sorted((row.prompt, row.n) for row in rows) == [(prompt, n) for prompt in "abc" for n in (1, 3)]
    assert {row.counts.judge_calls for row in rows if row.n == 3} == {3}
