"""Models that the package has never seen, named `module:Class`: every command does with them what plain loops find."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagecot.contracts.randomness import Stream, fork_seeds, path_seeds, prompt_seed, uniforms

OUTSIDE = Path(__file__).parent / "data" / "outside" / "weave.py"
ROWS, COLUMNS, CODES, PATCH, WIDTH = 3, 5, 7, 4, 6
PROMPT = "woven shades of an evening"
KEYS = [[math.cos(1.7 * (code * WIDTH + k)) for k in range(WIDTH)] for code in range(CODES)]


def words(prompt):
    return sum((k + 1) * ord(character) for k, character in enumerate(prompt)) % 101


def row(number, before, seed, step):
    """The codes of a path's next row, from all of its codes before, without any cache."""
    uniform = uniforms(torch.tensor([seed]), step, Stream.USER, COLUMNS)[0].double().tolist()
    codes = [*before]
    for column in range(COLUMNS):
        context = [
            math.cos(number * (k + 1) + step * COLUMNS + column) + sum(KEYS[code][k] for code in codes)
            for k in range(WIDTH)
        ]
        logits = [3.0 * math.sin(sum(c * key for c, key in zip(context, keys, strict=True))) for keys in KEYS]
        weights = [math.exp(logit) for logit in logits]
        running, drawn = 0.0, 0
        for code, weight in enumerate(weights):
            running += weight / sum(weights)
            drawn = code
            if running >= uniform[column]:
                break
        codes.append(drawn)
    return codes


def path(number, seed, steps=ROWS):
    codes = []
    for step in range(steps):
        codes = row(number, codes, seed, step)
    return codes


def likes(prompt, codes):
    """How much the verifier likes a picture whose rows that are not drawn yet are of a middle shade."""
    shades = [code / CODES for code in codes] + [0.5] * (ROWS * COLUMNS - len(codes))
    return round(1 - abs(sum(shades) / len(shades) - words(prompt) / 101), 5)


def pixels(codes):
    shades = [code / CODES for code in codes]
    grey = torch.tensor(shades).view(ROWS, COLUMNS).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
    return (torch.stack([grey, grey**2, 1 - grey], -1) * 255).round().int()


def same_picture(file, codes):
    shown = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).int()
    return int((shown - pixels(codes)).abs().max()) <= 1


@dataclass
class Found:
    """What plain loops find: the codes of the choice, scores of all candidates (None where stopped), and the cost."""

    codes: list
    scores: list
    rows: int
    calls: int


def best(scores):
    return max((k for k in range(len(scores)) if scores[k] is not None), key=lambda k: (scores[k], -k))


def by_best_of_n(n, seed):
    drawn = [path(words(PROMPT), s) for s in path_seeds(seed, n).tolist()]
    scores = [likes(PROMPT, codes) for codes in drawn]
    return Found(drawn[best(scores)], scores, n * ROWS, n)


def by_single(n, seed):
    codes = path(words(PROMPT), int(path_seeds(seed, 1)))
    return Found(codes, [likes(PROMPT, codes)], ROWS, 1)


def by_stepwise(n, seed):
    kept, codes = path_seeds(seed, 1), []
    for step in range(ROWS):
        seeds = fork_seeds(kept, n)
        ways = [row(words(PROMPT), codes, s, step) for s in seeds.tolist()]
        scores = [0.8 * likes(PROMPT, way) for way in ways]
        codes, kept = ways[best(scores)], seeds[best(scores)][None]
    return Found(codes, scores, n * ROWS, n * ROWS)


def by_parm(n, seed, first_step=1, keep=0.0):
    seeds = path_seeds(seed, n).tolist()
    drawn, alive, clear, potential = [[] for _ in seeds], list(range(n)), {}, {}
    rows = calls = 0
    for step in range(1, ROWS + 1):
        for k in alive:
            drawn[k] = row(words(PROMPT), drawn[k], seeds[k], step - 1)
        rows += len(alive)
        if step == ROWS or step < first_step:
            continue
        asked = [k for k in alive if k not in clear]
        newly = [k for k in asked if 0.75 * likes(PROMPT, drawn[k]) >= 0.5]
        calls += len(asked) + len(newly)
        for k in newly:
            clear[k], potential[k] = step, min(max((likes(PROMPT, drawn[k]) - 0.6) * 4, 0.0), 1.0)
        if keep:
            order = sorted(newly, key=lambda k: (-potential[k], k))
            stopped = order[math.ceil(keep * len(newly)) :]
        else:
            stopped = [k for k in newly if potential[k] < 0.5]
        alive = [k for k in alive if k not in stopped]
    if not alive:
        least = max(range(n), key=lambda k: (potential[k], -k))
        rows += ROWS - clear[least]
        drawn[least], alive = path(words(PROMPT), seeds[least]), [least]
    scores = [likes(PROMPT, drawn[k]) if k in alive else None for k in range(n)]
    return Found(drawn[best(scores)], scores, rows, calls + len(alive))


def by_parm_plus_plus(n, seed):
    found = by_parm(n, seed)
    seeds, scores = path_seeds(seed, n).tolist(), [*found.scores]
    drawn = {best(scores): (found.codes, seeds[best(scores)])}
    current, rows, calls = best(scores), found.rows, found.calls
    for _ in range(3):
        codes, own = drawn[current]
        calls += 1
        if 0.6 * likes(PROMPT, codes) >= 0.5:
            break
        told = words(PROMPT) + len("the weave is of another shade") + sum(codes)
        first = len(scores)
        for k, fork in enumerate(fork_seeds(torch.tensor([own]), max(1, n // 5)).tolist()):
            drawn[first + k] = path(told, fork), fork
            scores.append(likes(PROMPT, drawn[first + k][0]))
        rows, calls = rows + (len(scores) - first) * ROWS, calls + len(scores) - first
        current = max(range(first, len(scores)), key=lambda k: (scores[k], -k))
    return Found(drawn[best(scores)][0], scores, rows, calls)


def by_halfway(n, seed, at=1):
    seeds = path_seeds(seed, n).tolist()
    early = [likes(PROMPT, path(words(PROMPT), s, at)) for s in seeds]
    alive = sorted(range(n), key=lambda k: -early[k])[: (n + 1) // 2]
    drawn = [path(words(PROMPT), s) for s in seeds]
    scores = [likes(PROMPT, drawn[k]) if k in alive else None for k in range(n)]
    return Found(drawn[best(scores)], scores, n * at + len(alive) * (ROWS - at), n + len(alive))


SEARCHES = {
    "single": ((), by_single),
    "best-of-n": ((), by_best_of_n),
    "stepwise": ((), by_stepwise),
    "parm": ((), by_parm),
    "parm with a later step": (("--set", "first_step=2", "--set", "keep=0.4"), lambda n, s: by_parm(n, s, 2, 0.4)),
    "parm++": ((), by_parm_plus_plus),
    "weave:Halfway": (("--set", "at=2"), lambda n, s: by_halfway(n, s, 2)),
}


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The folder of somebody who has the module beside his work."""
    shutil.copy(OUTSIDE, tmp_path / "weave.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "weave", raising=False)
    return tmp_path


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("search", SEARCHES)
def test_generate(imagecot, outside, search, seed):
    options, independent = SEARCHES[search]
    models = ("--generator", "weave:Weave", "--verifier", "weave:Eye", "--search", search.split(" with")[0])
    asked = (PROMPT, *models, "-n", "12", "--seed", str(seed), *options, "--out", "run", "--json")
    code, out, err = imagecot("generate", *asked)
    assert code == 0, err
    told, found = json.loads(out), independent(12, seed)
    lines = [json.loads(line) for line in Path("run/trace.jsonl").read_text().splitlines()]
    scores = [line["score"] for line in lines if line["kind"] == "path"]
    assert [score is None for score in scores] == [score is None for score in found.scores]
    assert [s for s in scores if s is not None] == pytest.approx([s for s in found.scores if s is not None], abs=0.01)
    # What is judged has 8 bits, by which a choice among nearly equal paths may be another.
    chosen, expected = told["chosen"]["path"] - 1, best(found.scores)
    assert found.scores[chosen] == pytest.approx(found.scores[expected], abs=0.002)
    assert chosen != expected or same_picture("run/image.png", found.codes)
    assert (told["cost"]["generator_rows"], told["cost"]["judge_calls"]) == (found.rows, found.calls)
    assert lines[0]["settings"]["sharpness"] == 3.0
    again, second, _ = imagecot("generate", *asked)
    assert (again, json.loads(second)["chosen"]) == (0, told["chosen"])


METADATA = [
    {"tag": "single_object", "include": [{"class": "apple", "count": 1}], "prompt": "a photo of an apple"},
    {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a photo of a cup"},
    {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"},
]


def right(metadata, codes):
    """Whether the detector sees what is asked for: a dark first patch is an apple, any other a cup, and all is red."""
    return (codes[0] / CODES < 0.4) == (metadata["include"][0]["class"] == "apple")


def write_metadata(file, rows=METADATA):
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("search", ["single", "best-of-n"])
def test_evaluate(imagecot, outside, search):
    write_metadata("asked.jsonl")
    verifier = ("--verifier", "weave:Eye", "-n", "6") if search != "single" else ()
    asked = ("--generator", "weave:Weave", "--detector", "weave:Loom", "--prompts", "asked.jsonl", "--samples", "2")
    code, _, err = imagecot("evaluate", "geneval", *asked, "--search", search, *verifier, "--out", "eval", "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in Path("eval/results.jsonl").read_text().splitlines()]
    expected = []
    for metadata in METADATA:
        prompt = metadata["prompt"]
        for seed in path_seeds(prompt_seed(0, prompt), 2).tolist():
            seeds = [seed] if search == "single" else path_seeds(seed, 6).tolist()
            drawn = [path(words(prompt), s) for s in seeds]
            expected.append(right(metadata, drawn[best([likes(prompt, codes) for codes in drawn])]))
    assert [row["correct"] for row in rows] == expected
    assert len(set(expected)) == 2


def test_curate_prm(imagecot, outside):
    """A preview is labelled by the four continuations of its path under new seeds."""
    write_metadata(
        "asked.jsonl", [{**METADATA[0], "prompt": "a woven apple"}, {**METADATA[1], "prompt": "a woven cup"}]
    )
    models = ("--generator", "weave:Weave", "--detector", "weave:Loom")
    code, _, err = imagecot("curate", "prm", "--prompts", "asked.jsonl", *models, "--seed", "3", "--out", "prm")
    assert code == 0, err
    from imagecot.curation.dataset import read_rows

    rows = list(read_rows(Path("prm")))
    expected = {}
    for metadata in ({**METADATA[0], "prompt": "a woven apple"}, {**METADATA[1], "prompt": "a woven cup"}):
        prompt = metadata["prompt"]
        seed = path_seeds(prompt_seed(3, prompt), 1)
        codes = []
        for step in range(ROWS):
            codes = row(words(prompt), codes, int(seed), step)
            if step + 1 == ROWS:
                ends = [codes]
            else:
                ends = []
                for fork in fork_seeds(seed, 4).tolist():
                    end = codes
                    for later in range(step + 1, ROWS):
                        end = row(words(prompt), end, fork, later)
                    ends.append(end)
            expected[prompt, step + 1] = "yes" if any(right(metadata, end) for end in ends) else "no"
    assert {(found.prompt, found.step): found.label for found in rows} == expected


STUDY = """
kind: study
output: study
n: 8
prompts_per_task: 2
timed_prompts: 0
gallery: 1
detector: weave:Loom
generators: {weave: "weave:Weave"}
rows:
  single: {generator: weave}
  best: {generator: weave, search: best-of-n, verifier: "weave:Eye"}
  parm: {generator: weave, search: parm, verifier: "weave:Eye", keep: 0.5}
  worst: {generator: weave, search: "weave:Worst", verifier: "weave:Eye"}
  halfway: {generator: weave, search: "weave:Halfway", verifier: "weave:Eye", at: 2}
"""


def test_study(imagecot, outside):
    """Every row of a study chooses what plain loops choose, of all its paths and of fewer."""
    from imagecot.geneval.prompts import TASKS, load_benchmark_prompts

    Path("study.yaml").write_text(STUDY)
    code, _, err = imagecot("study", "study.yaml")
    assert code == 0, err
    summary = json.loads(Path("study/summary.json").read_text())
    rows = [json.loads(line) for line in Path("study/candidates/weave.jsonl").read_text().splitlines()]
    every = load_benchmark_prompts()
    asked = [m.prompt for task in TASKS for m in [m for m in every if m.tag == task][:2]]
    assert sorted(found["metadata"]["prompt"] for found in rows) == sorted(asked)
    for found in rows:
        prompt = found["metadata"]["prompt"]
        seeds = path_seeds(prompt_seed(0, prompt), 8).tolist()
        drawn = [path(words(prompt), seed) for seed in seeds]
        scores = [likes(prompt, codes) for codes in drawn]
        assert found["codes"] == drawn
        assert found["searches"]["best"]["chosen"] == best(scores)
        assert found["searches"]["worst"]["chosen"] == min(range(8), key=lambda k: (scores[k], k))
        assert found["searches"]["single"]["chosen"] == 0
        early = [likes(prompt, codes[: 2 * COLUMNS]) for codes in drawn]
        alive = sorted(range(8), key=lambda k: -early[k])[:4]
        halfway = max(alive, key=lambda k: (scores[k], -k))
        assert found["searches"]["halfway"]["codes"] == drawn[halfway]
    curve = {point["n"]: point["overall"] for point in summary["curves"]["weave"]["worst"]}
    assert set(curve) == {1, 2, 3, 5, 8}
    for n, overall in curve.items():
        assert overall == pytest.approx(by_groups(rows, n), abs=1e-9)


def by_groups(rows, n):
    """The mean over tasks of what the worst of each group of n paths is worth."""
    by_task = {}
    for found in rows:
        prompt, task = found["metadata"]["prompt"], found["metadata"]["tag"]
        scores = [likes(prompt, codes) for codes in found["codes"]]
        for first in range(0, 8 - n + 1, n):
            worst = min(range(first, first + n), key=lambda k: (scores[k], k))
            by_task.setdefault(task, {}).setdefault(prompt, []).append(found["correct"][0][worst])
    means = [sum(sum(v) / len(v) for v in task.values()) / len(task) for task in by_task.values()]
    return sum(means) / len(means)


def test_study_of_a_world(imagecot, outside):
    """A study of somebody's world draws its prompts and is judged by its detector."""
    recipe = STUDY.replace("detector: weave:Loom", 'world: "weave:Woven"').replace(
        "timed_prompts: 0", "timed_prompts: 1"
    )
    Path("study.yaml").write_text(recipe)
    code, _, err = imagecot("study", "study.yaml")
    assert code == 0, err
    rows = [json.loads(line) for line in Path("study/candidates/weave.jsonl").read_text().splitlines()]
    assert {found["metadata"]["prompt"] for found in rows} == {
        "a woven apple of single_object", "a woven cup of single_object", "a woven apple of two_object",
    }  # fmt: skip
    for found in rows:
        assert found["correct"][0] == [right(found["metadata"], codes) for codes in found["codes"]]
    assert len({correct for found in rows for correct in found["correct"][0]}) == 2
    curve = {
        p["n"]: p["overall"] for p in json.loads(Path("study/summary.json").read_text())["curves"]["weave"]["worst"]
    }
    for n, overall in curve.items():
        assert overall == pytest.approx(by_groups(rows, n), abs=1e-9)
    code, _, err = imagecot("study", "study.yaml", "world=weave:Loom", "output=other")
    assert code == 2 and "weave:Loom is no world" in err and err.count("\n") == 1


def test_a_search_may_take_any_finished_path_of_very_many(outside):
    """Of more than 256 paths the images of the best are kept; one that is taken all the same is drawn once more."""
    from weave import Eye, Weave, Worst

    from imagecot import search

    trace = search(PROMPT, generator=Weave(), verifier=Eye(), strategy=Worst(), n=300, seed=5)
    drawn = [path(words(PROMPT), seed) for seed in path_seeds(5, 300).tolist()]
    scores = [likes(PROMPT, codes) for codes in drawn]
    assert trace.chosen == min(range(300), key=lambda k: (scores[k], k))
    assert int((torch.from_numpy(np.array(trace.image)).int() - pixels(drawn[trace.chosen])).abs().max()) <= 1
    assert (trace.cost.generator_rows, trace.cost.previews) == (301 * ROWS, 301)
    assert trace.picture.height > 0 and trace.candidates[trace.chosen].previews.keys() == {1, 2}
