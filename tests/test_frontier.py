"""A frontier: searches on kept pools are the real ones, each thing is asked once, numbers are worked by hand."""

import io
import json
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from imagecot import registry
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.contracts.randomness import prompt_seed
from imagecot.errors import ImagecotError, UsageError
from imagecot.recipes import check
from imagecot.report import write
from imagecot.strategies.search import search
from imagecot.study import StudyRecipe, run, timing
from imagecot.study.frontier.analysis import _oracle, frontier, mixed, reached, shares_at
from imagecot.study.frontier.levels import level, minus
from imagecot.study.frontier.pools import Pools, drawn
from imagecot.study.frontier.recipe import FrontierRecipe
from imagecot.study.frontier.remembered import Remembered
from imagecot.study.frontier.replay import Desk
from imagecot.study.frontier.seconds import clock
from imagecot.study.frontier.summary import Clock, Level, Line, Point
from imagecot.study.models import Models
from imagecot.study.recipe import RowRecipe
from imagecot.study.rows import Counts, TimingRow
from imagecot.verifiers.combined import ensemble
from plain_decoder import tiny_generator
from test_study_of_others import others  # noqa: F401
from test_study_recorded import Moody, Rows, Strict

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"
ABOUT = Metadata.of({"prompt": PROMPT, "tag": "single_object", "include": [{"class": "apple", "count": 1}]})
N, SEED = 6, 3
GENERATORS = {"masked": lambda: tiny_generator(steps=4), "rows": Rows}
CHECKED = [("best-of-n", {}, Moody), ("parm", {}, Strict), ("parm", {"keep": 0.5}, Moody), ("adaptive", {}, Moody)]


class Bright:
    """Calls an image right whose first pixel is bright."""

    weights = ("1",)

    def look(self, images, metadata):
        from imagecot.geneval.rules import Judgment

        return [[Judgment(bool(image[0, 0, 0] > 0.4), "") for image in images]]

    def right(self, picture, metadata):
        return [picture.getpixel((0, 0))[0] / 255 > 0.4]


BEGAN = count()  # of runs that shared no batch


def pools(folder: Path, **identity) -> Pools:
    return Pools(folder, {"seed": SEED, **identity})


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize(("name", "options", "judge"), [*CHECKED, ("hierarchical", {"forks": 2}, Moody)], ids=str)
def test_a_search_on_a_kept_pool_is_the_real_one(tmp_path, kind, name, options, judge):
    generator = GENERATORS[kind]()
    there = pools(tmp_path / "pools")
    there.keep(0, drawn(generator, Bright(), ABOUT, N, SEED))
    models = Models(generator, {"v": judge()})
    desk = Desk(ABOUT, there.read(0, PROMPT), models, Bright(), SEED)
    row = RowRecipe(generator="g", search=name, verifier="v", **options)
    for n in (1, 4, N):
        mean = desk.outcomes(0, "", row, [n], 1).by_n[str(n)]
        real = search(
            PROMPT, generator=GENERATORS[kind](), verifier=judge(), strategy=name, n=n,
            seed=prompt_seed(SEED, PROMPT), **options,
        )  # fmt: skip
        counts = (real.cost.generator_rows, real.cost.previews, real.cost.judge_calls)
        assert (mean.generator_rows, mean.previews, mean.judge_calls) == counts
        assert mean.right == Bright().right(real.image, ABOUT)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize(("name", "options"), [("best-of-n", {}), ("adaptive", {"share": 0.4, "threshold": 0.5})])
def test_what_asks_about_final_images_alone_is_replayed_on_numbers(tmp_path, monkeypatch, kind, name, options):
    """Order by order and count by count as on the codes; with the codes nothing is done then."""
    generator = GENERATORS[kind]()
    pool = drawn(generator, Bright(), ABOUT, N, SEED)
    row = RowRecipe(generator="g", search=name, verifier="v", **options)
    assert row.how.asks_of_images_alone
    quick = Desk(ABOUT, pool, Models(generator, {"v": Moody()}), Bright(), SEED)
    slow = Desk(ABOUT, pool, Models(generator, {"v": Moody()}), Bright(), SEED)
    for n in (1, 3, N):
        whole = slow._mean(row, n, 7)
        with monkeypatch.context() as no:
            no.setattr(Desk, "_mean", None)
            assert quick.outcomes(0, "", row, [n], 7).by_n[str(n)] == whole
    other = [("parm", {}), ("adaptive", {"keep": 0.5, "first_step": 2}), ("hierarchical", {}), ("resample", {})]
    for search_name, more in other:
        assert not RowRecipe(generator="g", search=search_name, verifier="v", **more).how.asks_of_images_alone


def test_a_verifier_that_is_made_of_two_counts_twice():
    both = ensemble("mean", [Moody(), Moody()])
    remembered = Remembered(both)
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for rows in (slice(0, 2), slice(0, 3)):
        assert torch.equal(remembered.ask(images[rows], [PROMPT], ORM), both.ask(images[rows], [PROMPT], ORM))
    assert remembered.usage.judge_calls == 2 * (2 + 3)


def test_orders_take_other_paths_and_only_forks_are_drawn(tmp_path, known):
    generator = Rows()
    there = pools(tmp_path / "pools")
    there.keep(0, drawn(generator, Bright(), ABOUT, N, SEED))
    pool = there.read(0, PROMPT)
    assert generator.drawn == N * generator.steps
    desk = Desk(ABOUT, pool, Models(generator, {"v": Moody()}), Bright(), SEED)
    single = desk.outcomes(0, "", RowRecipe(generator="g"), [1], 200).by_n["1"]
    assert single.right[0] == pytest.approx(pool.correct[0].mean(), abs=0.1)
    best = RowRecipe(generator="g", search="best-of-n", verifier="v")
    assert desk.outcomes(0, "", best, [N], 20).by_n[str(N)].right[0] in (0.0, 1.0)  # all orders choose the same
    assert generator.drawn == N * generator.steps
    forks = RowRecipe(generator="g", search="hierarchical", verifier="v", forks=2)
    assert desk.outcomes(0, "", forks, [N], 1).by_n[str(N)].right[0] in (0.0, 1.0)
    assert N * generator.steps < generator.drawn < 2 * N * generator.steps
    once = recipe()
    assert {name: once.orders_of(row) for name, row in once.rows.items()} == {
        "one": 3,
        "best": 40,
        "parm": 3,
        "forks": 1,
    }


def test_a_damaged_pool_or_that_of_another_prompt_is_told(tmp_path):
    there = pools(tmp_path / "pools")
    there.keep(2, drawn(Rows(), Bright(), ABOUT, 2, SEED))
    with pytest.raises(ImagecotError, match=r"00002\.npz holds the pool of another prompt"):
        there.read(2, "a cup")
    with pytest.raises(UsageError, match=r"holds another pools \(seed 3, not 4\)"):
        pools(tmp_path / "pools", seed=4).check()
    file = tmp_path / "pools" / "00002.npz"
    whole = file.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"PK" + whole[2:50]):
        file.write_bytes(data)
        with pytest.raises(ImagecotError, match="holds no pool"):
            there.read(2, PROMPT)
    held = dict(np.load(io.BytesIO(whole)))
    for name, value in (("correct", held["correct"][:, :1]), ("codes", held["codes"] * 0.5), ("own", held["own"][:1])):
        np.savez(file, **{**held, name: value})
        with pytest.raises(ImagecotError, match="holds no pool"):
            there.read(2, PROMPT)


@pytest.mark.parametrize("name", [name for name in registry.ROLES["search"].classes if name != "parm++"])
def test_what_is_remembered_is_what_was_said_and_is_asked_once(name):
    needs = registry.load("search", name).needs
    if "verifier" not in needs or "remasker" in needs:
        pytest.skip("no verifier, or rows cannot be taken back")
    inner = Moody()
    remembered = Remembered(inner)
    how = {"strategy": name, "n": N, "seed": SEED, "generator": Rows()}
    real = search(PROMPT, verifier=Moody(), **how)
    first, calls = search(PROMPT, verifier=remembered, **how), inner.usage.judge_calls
    again = search(PROMPT, verifier=remembered, **how)
    for trace in (first, again):
        assert [one.verdicts for one in trace.candidates] == [one.verdicts for one in real.candidates]
        assert (trace.chosen, trace.cost.judge_calls) == (real.chosen, real.cost.judge_calls)
        assert trace.cost.tokens_judged == real.cost.tokens_judged
    assert inner.usage.judge_calls == calls


def test_a_follow_up_about_some_images_is_begun_again_where_its_turn_was_not_kept():
    images = (torch.rand(4, 3, 6, 4) * 255).round() / 255
    plain, remembered = Moody(), Remembered(Moody())
    _, turn = plain.begin(images, [PROMPT], CLARITY)
    wanted = plain.ask(images, [PROMPT], POTENTIAL, turn)
    remembered.ask(images[:2], [PROMPT], CLARITY)
    answers, part = remembered.begin(images, [PROMPT], CLARITY)  # of which two are remembered, so no turn is whole
    assert torch.equal(answers, plain.ask(images, [PROMPT], CLARITY))
    rows = torch.tensor([3, 1])
    assert torch.equal(remembered.ask(images[rows], [PROMPT], POTENTIAL, part.select(rows)), wanted[rows])
    assert torch.equal(remembered.ask(images, [PROMPT], POTENTIAL, part), wanted)


def test_levels_by_hand():
    tasks = {0: "a", 1: "a", 2: "b", 3: "b"}
    found = level({0: 1.0, 1: 0.5, 2: 0.0, 3: 0.0}, tasks)
    assert found.value == pytest.approx(0.375)
    assert found.standard_error == pytest.approx(0.125)  # (.25 and 0), halved
    assert (found.low, found.high) == pytest.approx((0.375 - 0.245, 0.375 + 0.245))
    assert level({0: 1.0, 2: 0.5}, tasks).standard_error is None
    assert minus({0: 1.0, 1: 0.5}, {1: 0.25, 2: 1.0}) == {1: 0.25}


def test_the_oracle_counts_all_choices_of_the_pool():
    correct = np.array([True, False, False, False])
    assert [_oracle(correct, n) for n in (1, 2, 4)] == [0.25, 0.5, 1.0]
    assert _oracle(np.array([False, False]), 2) == 0.0


def timed(seconds: float, judge: float, rows: int, calls: int) -> TimingRow:
    counts = Counts(generator_rows=rows, previews=0, judge_calls=calls, tokens_judged=0)
    return TimingRow(
        name="x", n=2, prompt="", seconds=seconds, judge_seconds=judge, counts=counts, began=next(BEGAN), ended=1
    )


def test_seconds_follow_what_is_counted():
    runs = [timed(1.2, 0.2, 10, 2), timed(2.4, 0.4, 20, 4)]  # a tenth of a second a row, and an answer
    found = clock(runs, 30.0, 5.0)
    assert (found.generator, found.judge, found.total) == pytest.approx((3.0, 0.5, 3.5))
    assert (found.standard_error, found.a_run, found.timed_mean) == pytest.approx((0.0, 0.0, 1.8), abs=1e-9)
    uneven = clock([timed(1.0, 0.0, 10, 0), timed(3.0, 0.0, 10, 0)], 10.0, 0.0)
    assert (uneven.total, uneven.standard_error, uneven.a_run) == pytest.approx((2.0, 1.0, 1.0))
    assert clock([], 1.0, 1.0) is None
    assert clock(runs[:1], 10.0, 2.0).standard_error is None
    together = clock([run.model_copy(update={"began": 0.0}) for run in runs], 30.0, 5.0)
    assert (together.total, together.standard_error) == (found.total, None)  # of one batch
    together = clock([run.model_copy(update={"began": 0.0}) for run in runs], 30.0, 5.0)
    assert (together.total, together.standard_error) == (found.total, None)  # of one batch


def test_between_budgets_a_search_is_where_its_seconds_are():
    points = [(1, 1.0), (2, 2.0), (4, 4.0)]
    assert shares_at(points, 0.5) == []
    assert shares_at(points, 9.0) == [(4, 1.0)]
    assert dict(shares_at(points, 2.0**1.5)) == pytest.approx({2: 0.5, 4: 0.5})
    assert mixed([({0: 1.0, 1: 0.0}, 0.25), ({0: 0.0, 1: 1.0}, 0.75)]) == {0: 0.25, 1: 0.75}
    assert mixed([]) == {}


def line(*points: tuple[int, float, float]) -> Line:
    """A search with points of N, seconds and difference to the best."""
    return Line(
        search="s",
        points=[
            Point(
                n=n, prompts=4, score=[Level(value=0.5)], to_best=[Level(value=gap)], generator_rows=1, previews=1,
                judge_calls=1, seconds=Clock(generator=seconds, judge=0, total=seconds, timed=1, timed_mean=seconds),
            )
            for n, seconds, gap in points
        ],
    )  # fmt: skip


def test_who_is_dominated_and_who_reaches_the_best():
    lines = {
        "best": line((1, 1.0, -0.5), (2, 2.0, -0.2), (4, 4.0, 0.0)),
        "quick": line((1, 1.0, -0.5), (2, 1.5, -0.3), (4, 2.0, -0.1)),
        "late": line((4, 3.0, -0.01), (8, 5.0, -0.02)),
    }
    assert [(place.row, place.n) for place in frontier(lines)] == [
        ("best", 1), ("quick", 2), ("quick", 4), ("late", 4), ("best", 4)
    ]  # fmt: skip
    found = reached(lines, lines["best"].points[-1])
    assert [(one.row, one.n, one.share) for one in found] == [("late", 4, 0.75), ("best", 4, 1.0)]


ROWS = {
    "one": {},
    "best": {"search": "best-of-n", "verifier": "others:Eye"},
    "parm": {"search": "parm", "verifier": "others:Eye", "keep": 0.5},
    "forks": {"search": "hierarchical", "verifier": "others:Eye", "forks": 2, "prompts_per_task": 1},
}


def recipe(rows=ROWS, **values):
    values = {
        "output": "out", "budgets": [6, 1, 2], "orders": 3, "prompts_per_task": 2, "timed_prompts": 2,
        "detector": "others:Shades", "generators": {"g": "others:Weaver"}, "against": {"g": "best"},
        "rows": {name: {"generator": "g", **row} for name, row in rows.items()}, **values,
    }  # fmt: skip
    return check(values, FrontierRecipe, "recipe")


@pytest.fixture
def known(others, monkeypatch):  # noqa: F811
    from imagecot.geneval import prompts

    every = [
        {"tag": tag, "prompt": f"a photo of {name}", "include": [{"class": kind, "count": count}]}
        for tag, name, kind, count in (
            ("single_object", "an apple", "apple", 1), ("single_object", "one apple", "apple", 1),
            ("counting", "a cup", "cup", 1), ("counting", "one cup", "cup", 1),
        )
    ]  # fmt: skip
    monkeypatch.setattr(prompts, "load_benchmark_prompts", lambda: every)
    return others


def test_a_frontier_from_its_recipe_to_its_report(known, monkeypatch):
    summary = run(recipe(), command="imagecot study recipe.yaml")
    found = summary.generators["g"]
    assert {name: [point.n for point in line.points] for name, line in found.rows.items()} == {
        "one": [1], "best": [1, 2, 6], "parm": [1, 2, 6], "forks": [1, 2, 6]
    }  # fmt: skip
    assert [point.prompts for point in found.rows["forks"].points] == [2, 2, 2]
    best = found.rows["best"].points[-1]
    assert (best.prompts, best.to_best[0].value, best.judge_calls, best.previews) == (4, 0.0, 6.0, 6.0)
    assert found.rows["parm"].points[-1].generator_rows < best.generator_rows
    assert all(point.seconds.timed == 2 for line in found.rows.values() for point in line.points)
    assert [bound.n for bound in found.oracle] == [1, 2, 6]
    assert found.random[0].score[0].value == pytest.approx(found.oracle[0].score[0].value)
    assert found.oracle[-1].score[0].value >= best.score[0].value
    assert json.loads(Path("out/frontier.json").read_text())["command"] == "imagecot study recipe.yaml"
    Path("README.md").write_text("# x\n<!-- frontier -->\nold\n<!-- /frontier -->\nend\n")
    files = write(Path("out"), Path("docs"), Path("README.md"))
    assert {file.name for file in files} == {"frontier.md", "frontier.png", "frontier.json", "README.md"}
    page, readme = Path("docs/frontier.md").read_text(), Path("README.md").read_text()
    assert page.count("| best |") + page.count("| **best** |") >= 3
    assert "old" not in readme and "| others:Weaver | best | 6 |" in readme and "docs/frontier.png" in readme


def test_several_batches_are_timed_of_the_largest_budget_and_more_prompts_of_rounds(known, monkeypatch):
    """In turn: first all rows with their first prompts, each batch spread over the tasks."""
    ran = []
    real = timing.carry_out_many

    def noted(requests):
        ran.append((requests[0].name, requests[0].n, [one.prompt.removeprefix("a photo of ") for one in requests]))
        return real(requests)

    monkeypatch.setattr(timing, "carry_out_many", noted)
    rows = {"best": ROWS["best"], "rounds": {"search": "adaptive", "verifier": "others:Eye", "threshold": 1.0}}
    values = {"budgets": [1, 6], "timed_prompts": 2, "timed_together": 1, "timed_in_rounds": 2}
    found = run(recipe(rows=rows, **values)).generators["g"].rows
    assert ran[2:] == [  # behind the first run of each row, which counts nowhere
        ("best-of-n", 6, ["an apple"]),
        ("adaptive", 6, ["an apple", "a cup"]),
        ("best-of-n", 1, ["an apple"]),
        ("adaptive", 1, ["an apple", "a cup"]),
        ("best-of-n", 6, ["a cup"]),
        ("adaptive", 6, ["one apple", "one cup"]),
    ]
    assert {name: [point.seconds.timed for point in line.points] for name, line in found.items()} == {
        "best": [1, 2],
        "rounds": [2, 4],
    }
    assert found["rounds"].points[0].seconds.standard_error is None
    assert found["rounds"].points[1].seconds.standard_error is not None
    before = len(ran)
    run(recipe(rows=rows, **values))
    assert len(ran) == before


def test_a_report_without_seconds_or_of_damaged_numbers(known):
    run(recipe(timed_prompts=0))
    write(Path("out"), Path("docs"))
    page = Path("docs/frontier.md").read_text()
    assert "At equal seconds" not in page and page.count("| forks |") == 3
    Path("README.md").write_text("nothing")
    with pytest.raises(UsageError, match="no place for the frontier; write <!-- frontier -->"):
        write(Path("out"), Path("docs"), Path("README.md"))
    file = Path("out/frontier.json")
    whole = json.loads(file.read_text())
    whole["generators"]["g"]["rows"]["best"]["points"][0]["n"] = "two"
    for text, told in (("{", "is not valid JSON"), (json.dumps(whole), r"generators\.g\.rows\.best\.points\.0\.n")):
        file.write_text(text)
        with pytest.raises(ImagecotError, match=told):
            write(Path("out"), Path("docs"))


def test_pools_stay_where_rows_change(known, monkeypatch):
    small = {"timed_prompts": 0}
    first = run(recipe(**small))
    module = sys.modules["others"]
    monkeypatch.setattr("imagecot.study.frontier.follow.drawn", None)  # whatever is drawn fails
    with monkeypatch.context() as patch:
        patch.setattr("imagecot.study.frontier.follow._checked", None)  # and nothing is loaded
        assert run(recipe(**small)).generators == first.generators
    fewer = recipe(rows=ROWS | {"parm": {**ROWS["parm"], "keep": 1.0}}, prompts_per_task=1, **small)
    again = run(fewer).generators["g"].rows
    assert again["parm"].points[-1].generator_rows == again["best"].points[-1].generator_rows
    assert again["best"].points[-1].prompts == 2
    with pytest.raises(UsageError, match=r"holds another study \(seed 0, not 1\)"):
        run(recipe(seed=1, **small))
    monkeypatch.setitem(module.SETTINGS, "palette", 8)
    with pytest.raises(UsageError, match="holds another pools"):
        run(recipe(**small))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"against": {}}, "against.g: name one of its rows, one, best, parm, forks"),
        ({"against": {"g": "nobody"}}, "against.g: name one of its rows"),
        ({"budgets": [0]}, "budgets.0"),
        ({"rows": {"r": {"generator": "h"}}}, "rows.r.generator: 'h' is none of g"),
        ({"rows": {"oracle": {"generator": "g"}}}, "rows.oracle: every table has a line of this name"),
    ],
)
def test_recipes_that_cannot_be(known, values, told):
    with pytest.raises(UsageError) as refused:
        recipe(**values) if "rows" not in values else check(
            {**recipe().model_dump(), **values, "output": "out"}, FrontierRecipe, "recipe"
        )
    assert told in str(refused.value)


def test_what_cannot_be_carried_out_is_told_before_anything_is_drawn(known):
    with pytest.raises(UsageError, match=r"rows\.many: others:Ranked draws more paths than the pools have, which is 6"):
        run(recipe(rows=ROWS | {"many": {"search": "others:Ranked", "verifier": "others:Eye"}}))
    with pytest.raises(UsageError, match="a frontier runs in one process"):
        run(recipe(), workers=2)
    with pytest.raises(
        UsageError, match=r"rows\.late: .*first_step: it must be from 1 to 2, not 7; say others in the row"
    ):
        run(recipe(rows=ROWS | {"late": {"search": "parm", "verifier": "others:Eye", "first_step": 7}}))
    with pytest.raises(UsageError, match="there is no row 'x'"):
        recipe().only(["x"])
    assert list(recipe().only(["parm"]).rows) == ["best", "parm"]
    assert not Path("out").exists()


def test_advice_that_does_not_fit_the_generator_is_left_out(known, monkeypatch):
    """As `search` does: the verifier's advice is for a generator of more steps."""
    import others as module

    monkeypatch.setattr(module.Eye, "advice", {"parm": {"first_step": 7, "keep": 0.5}})
    rows = {"best": ROWS["best"], "parm": {"search": "parm", "verifier": "others:Eye"}}
    found = run(recipe(rows=rows, timed_prompts=0)).generators["g"].rows["parm"].points[-1]
    said = run(recipe(rows=ROWS, output="said", timed_prompts=0)).generators["g"].rows["parm"].points[-1]
    assert found == said  # the share to keep is taken
    study = {
        "output": "study", "n": 4, "prompts_per_task": 1, "timed_prompts": 1, "gallery": 0,
        "detector": "others:Shades", "generators": {"g": "others:Weaver"},
        "rows": {"parm": {"generator": "g", **rows["parm"]}},
    }  # fmt: skip
    assert run(check(study, StudyRecipe, "recipe")).rows["parm"].seconds_per_image > 0
