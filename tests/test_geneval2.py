"""`imagecot evaluate geneval2`: data that cannot be scored are named, hand-worked scores, runs that were killed."""

import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import gmean

from imagecot import registry
from imagecot.endpoints import KEY
from imagecot.evaluation.folder import read_image, write_entry
from imagecot.evaluation.geneval2 import Geneval2Recipe, run
from imagecot.evaluation.geneval2.job import Job
from imagecot.evaluation.geneval2.summary import read_summary
from imagecot.geneval2.answers import asked, spelled
from imagecot.geneval2.data import Benchmark, Row
from imagecot.geneval2.summary import Scored, arithmetic, estimate, geometric, summarize
from misbehaving import server
from served import judges
from small_models import write_janus

torch.set_num_threads(1)
ROWS = Path(__file__).parent / "data" / "geneval2" / "rows.jsonl"
GOOD = json.loads(ROWS.read_text().splitlines()[0])
# Answers by question, whatever is to be seen: what the scores below are worked out from.
SCRIPT = """
import torch
from imagecot.checks.toys import ToyVerifier

P = {"How many apples are in the image?": 0.5, "Are the apples red?": 0.25, "Are there any apples in the image?": 1.0,
     "How many cups are in the image?": 0.1, "Is the cup green?": 0.4, "Are there any cups in the image?": 0.9,
     "Are the cups blue?": 0.0, "Is the apple left of the cup?": 0.2}


class Judge(ToyVerifier):
    settings = {"script": 1}

    def answer_probability(self, images, questions, answers):
        assert images.shape[0] == 1 and len(questions) == len(answers)
        self.usage += type(self.usage)(judge_calls=len(questions), tokens_judged=3 * len(questions))
        return torch.tensor([P[question.removesuffix(" Answer in one word.")] for question in questions])


class Broken(Judge):
    def answer_probability(self, images, questions, answers):
        return super().answer_probability(images, questions, answers) * 3
"""
EXPECTED = [[0.5, 0.25, 1.0], [0.1, 0.4, 0.9], [0.1, 0.0, 0.9], [0.5, 1.0, 0.2, 0.1, 0.9]]


@pytest.fixture
def scripted(tmp_path, monkeypatch) -> Path:
    """A folder with the scripted judge, and a grey image of each row."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripted.py").write_text(SCRIPT)
    monkeypatch.delitem(sys.modules, "scripted", raising=False)
    for k, metadata in enumerate(Benchmark.read(ROWS).metadata.values()):
        write_entry(tmp_path / "im" / f"{k:05d}", metadata, torch.full((1, 3, 8, 8), 0.1 * (k + 1)))
    return tmp_path / "im"


def score(imagecot, *more: str, data: Path = ROWS, judge: str = "scripted:Judge") -> tuple[int, dict, str]:
    code, out, err = imagecot("evaluate", "geneval2", "--data", str(data), "--judge", judge, "--json", *more)
    return code, json.loads(out) if out.startswith("{") else {}, err


def rows_of(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


# --- data


def test_rows_are_read():
    found = Benchmark.read(ROWS)
    assert [row.atom_count for row in found.rows.values()] == [3, 2, 3, 3]
    row = found.rows["a picture of a green cup"]
    assert row.atoms[0] == ("How many cups are in the image?", "one", "count")
    assert found.metadata[row.prompt].text == ROWS.read_text().splitlines()[1]
    assert [*found.first(1).rows] == ["a photo of two red apples", "a picture of a green cup"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": None}, "prompt: input should be a valid string"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": ...}, "prompt is missing"),
        ({"atom_count": ...}, "atom_count is missing"),
        ({"atom_count": 0}, "atom_count: input should be greater than or equal to 1"),
        ({"atom_count": "3"}, "atom_count: input should be a valid integer"),
        ({"atom_count": 4}, "atom_count is 4, but vqa_list has 3 questions"),
        ({"atom_count": 2}, "questions, of which 0 with the answer one need not count"),
        ({"vqa_list": ...}, "vqa_list is missing"),
        ({"vqa_list": {"a": "b"}}, "vqa_list: input should be a valid array"),
        ({"vqa_list": []}, "vqa_list is empty"),
        ({"vqa_list": ["How many?"] * 3}, "vqa_list.0: input should be a valid array"),
        ({"vqa_list": [["How many?"]] * 3}, "vqa_list.0.1 is missing"),
        ({"vqa_list": [["How many?", "two", "three"]] * 3}, "vqa_list.0: tuple should have at most 2 items"),
        ({"vqa_list": [["How many?", 2]] * 3}, "vqa_list.0.1: input should be a valid string"),
        ({"vqa_list": [["How many?", "2"]] * 3}, "vqa_list.0.1: must be Yes, No or a number word from zero to ten"),
        ({"vqa_list": [["What colour?", "red"]] * 3}, "must be Yes, No or a number word from zero to ten, not 'red'"),
        ({"vqa_list": [["", "two"]] * 3}, "vqa_list.0.0: must not be empty"),
        ({"skills": ...}, "skills is missing"),
        ({"skills": ["count"]}, "skills has 1 entries, but vqa_list has 3"),
        ({"skills": ["count", "", "object"]}, "skills.1: must not be empty"),
    ],
)
def test_a_line_that_cannot_be_scored_is_named(imagecot, change, told):
    values = {key: value for key, value in {**GOOD, **change}.items() if value is not ...}
    Path("rows.jsonl").write_text(f"{ROWS.read_text().splitlines()[1]}\n\n{json.dumps(values)}\n")
    code, out, err = imagecot("evaluate", "geneval2", "--data", "rows.jsonl", "--generator", "tiny", "--out", "x")
    assert (code, out) == (2, "")
    assert "line 3 of rows.jsonl" in err and told in err
    assert err.count("\n") == 1
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1 of rows.jsonl is not valid JSON"),
        ("[1]", "line 1 of rows.jsonl: input should be an object"),
        ("", "rows.jsonl holds no prompts"),
        (f"{json.dumps(GOOD)}\n" * 2, "line 2 of rows.jsonl: prompt is that of line 1 again"),
        ("\udce9", "is not UTF-8 text"),
        (None, "rows.jsonl is missing"),
    ],
)
def test_a_file_that_is_none(imagecot, text, told):
    if text is not None:
        Path("rows.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    code, out, err = imagecot("evaluate", "geneval2", "--data", "rows.jsonl", "--generator", "tiny", "--out", "x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_an_article_need_not_be_counted():
    """As in the published data: "a" is asked about and not counted; a number word one may be counted too."""
    values = json.loads(ROWS.read_text().splitlines()[1])
    for count in (2, 3):
        assert Row.model_validate_json(json.dumps({**values, "atom_count": count})).atom_count == count
    with pytest.raises(ValidationError, match="atom_count is 1, but vqa_list has 3 questions"):
        Row.model_validate_json(json.dumps({**values, "atom_count": 1}))


# --- answers


def test_answers_are_spelt_as_in_the_reference():
    assert {*spelled("three")} == {"three", "Three", " three", " Three", "3", " 3"}
    assert {*spelled("Yes")} == {"Yes", "yes", " yes", " Yes"}
    assert {*spelled("No")} == {"No", "no", " no", " No"}
    assert asked("Is it {prompt}?") == "Is it {prompt}? Answer in one word."
    with pytest.raises(ValueError, match="no answer"):
        spelled("red")


# --- summary


def test_means_are_those_of_the_reference():
    for scores in EXPECTED:
        assert arithmetic(scores) == pytest.approx(sum(scores) / len(scores))
        if min(scores) > 0:
            assert geometric(scores) == pytest.approx(gmean(scores))
    assert geometric([0.0, 1.0]) == 0


def test_two_prompts_by_hand():
    """Resampled, two prompts give one of them twice in a quarter of the cases each: the interval is from one to other.

    The error is sqrt(2/1 · ((0.2 − 0.4)² + (0.6 − 0.4)²)) / 2 = 0.2.
    """
    found = estimate([("a", 0.2), ("b", 0.6)])
    assert (found.mean, found.low, found.high) == pytest.approx((0.4, 0.2, 0.6))
    assert found.se == pytest.approx(0.2)
    assert (found.count, found.prompts) == (2, 2)
    alone = estimate([("a", 0.2), ("a", 0.6)])
    assert (alone.mean, alone.se, alone.low, alone.high, alone.prompts) == (pytest.approx(0.4), None, None, None, 1)


def test_images_of_one_prompt_are_one_cluster():
    def image(prompt: str, score: float) -> Scored:
        return Scored(filename="", prompt=prompt, atom_count=1, skills=["any"], scores=[score], am=score, gm=score)

    twice = summarize([image("a", 0.2), image("a", 0.2), image("b", 0.6), image("b", 0.6)])
    once = summarize([image("a", 0.2), image("b", 0.6)])
    assert twice.overall.am.se == pytest.approx(once.overall.am.se)
    assert (twice.overall.am.low, twice.images, twice.prompts) == (once.overall.am.low, 4, 2)


# --- whole evaluations


def test_scores_by_hand(imagecot, scripted):
    code, found, err = score(imagecot, "--images", "im", "--out", "o")
    assert (code, err) == (0, "")
    rows = rows_of("o")
    assert [row["scores"] for row in rows] == [pytest.approx(scores) for scores in EXPECTED]
    assert [row["skills"] for row in rows] == [json.loads(line)["skills"] for line in ROWS.read_text().splitlines()]
    assert [row["am"] for row in rows] == pytest.approx([1.75 / 3, 1.4 / 3, 1 / 3, 2.7 / 5])
    assert [row["gm"] for row in rows] == pytest.approx([0.5, 0.036 ** (1 / 3), 0, 0.009 ** (1 / 5)])
    overall, skills, counts = (found["score"][part] for part in ("overall", "skills", "atom_counts"))
    assert overall["am"]["mean"] == pytest.approx((1.75 / 3 + 1.4 / 3 + 1 / 3 + 0.54) / 4)
    assert overall["gm"]["mean"] == pytest.approx((0.5 + 0.036 ** (1 / 3) + 0.009 ** (1 / 5)) / 4)
    means = {skill: (one["mean"], one["count"]) for skill, one in skills.items()}
    assert means["count"] == (pytest.approx((0.5 + 0.1 + 0.1 + 0.5 + 0.1) / 5), 5)
    assert means["attribute"] == (pytest.approx(0.65 / 3), 3)
    assert means["object"] == (pytest.approx(4.7 / 5), 5)
    assert means["position"] == (pytest.approx(0.2), 1)
    assert counts["2"]["gm"]["mean"] == pytest.approx(0.036 ** (1 / 3))
    assert counts["3"]["am"]["mean"] == pytest.approx((1.75 / 3 + 1 / 3 + 0.54) / 3)
    assert counts["2"]["am"]["low"] is None and counts["3"]["am"]["low"] < counts["3"]["am"]["high"]
    assert (found["score"]["images"], found["score"]["zeros"]) == (4, 1)
    assert found["cost"] == {"questions": 14, "question_tokens": 42}
    assert json.loads(Path("o/score_lists.json").read_text()) == [pytest.approx(scores) for scores in EXPECTED]


def test_the_record_says_all_that_moves_the_number(imagecot, scripted):
    record = score(imagecot, "--images", "im", "--out", "o")[1]["record"]
    assert record["judge"]["judge"] == "scripted:Judge" and record["judge"]["settings"] == {"script": 1}
    assert record["judge"]["template"] == "{question} Answer in one word."
    assert len(record["run"]["data_sha256"]) == len(record["run"]["images_sha256"]) == 64
    assert record["run"]["judge_settings"] == {"script": 1}
    assert {"imagecot", "torch", "transformers"} <= {*record["versions"]}
    assert read_summary(Path("o")).record.run == record["run"]


def test_the_table(imagecot, scripted):
    code, out, err = imagecot(
        *("evaluate", "geneval2", "--data", str(ROWS), "--judge", "scripted:Judge", "--images", "im", "--out", "o")
    )
    assert (code, err) == (0, "")
    first, second = Path("o/table.md").read_text().strip().split("\n\n")
    assert out.startswith(first) and second in out
    assert "| position | 1 | 0.200 |" in first
    assert second.splitlines()[0] == "| atoms | images | AM | GM |"
    assert second.splitlines()[2].startswith("| 2 | 1 | 0.467 | 0.330 |")
    assert "judged by scripted:Judge; intervals are 95 %, clustered by prompt" in out
    assert "1 answer(s) have a probability of 0" in out


def test_a_file_of_paths_as_the_reference_takes(imagecot, scripted):
    paths = {prompt: f"im/{k:05d}/samples/0000.png" for k, prompt in enumerate(Benchmark.read(ROWS).rows)}
    Path("paths.json").write_text(json.dumps(dict(reversed(paths.items()))))
    code, found, _ = score(imagecot, "--images", "paths.json", "--out", "o")
    assert code == 0
    assert found["score"] == score(imagecot, "--images", "im", "--out", "p")[1]["score"]
    assert Path("o/results.jsonl").read_text() == Path("p/results.jsonl").read_text()
    code, _, err = score(imagecot, "--images", "paths.json", "--samples", "2", "--out", "q")
    assert code == 2 and "names one image a prompt; leave --samples out" in err
    Path("paths.json").write_text(json.dumps({**paths, "a cat": "cat.png", next(iter(paths)): "gone.png"}))
    code, found, _ = score(imagecot, "--images", "paths.json", "--out", "q")
    told = "\n".join(found["problems"])
    assert code == 1 and "gone.png is missing" in told and "names 'a cat', which is no prompt of" in told
    assert found["score"]["images"] == 3
    assert not Path("q/score_lists.json").exists()
    Path("paths.json").write_text(json.dumps({next(iter(paths)): 3}))
    code, _, err = score(imagecot, "--images", "paths.json", "--out", "r")
    assert code == 2 and "give the path of an image" in err and not Path("r").exists()


def test_gaps_are_told_and_the_rest_is_scored(imagecot, scripted):
    (scripted / "00000/samples/0000.png").write_bytes(b"\x89PNG broken")
    (scripted / "00001/metadata.jsonl").write_text('{"prompt": "a cat"}\n')
    shutil.rmtree(scripted / "00002")
    code, found, err = score(imagecot, "--images", "im", "--out", "o")
    assert code == 1
    told = "\n".join(found["problems"])
    assert "no readable picture" in told and "names 'a cat', which is no prompt" in told
    assert "2 of 4 prompts of" in told and "such as 'a picture of a green cup'" in told
    assert found["score"]["images"] == 1
    code, out, err = imagecot(
        *("evaluate", "geneval2", "--data", str(ROWS), "--judge", "scripted:Judge", "--images", "im", "--out", "o")
    )
    assert code == 1 and "INCOMPLETE: 3 problems" in out and err.count("problem: ") == 3


def test_repaired_images_are_scored_again(imagecot, scripted):
    broken = scripted / "00000/samples/0000.png"
    kept = broken.read_bytes()
    broken.write_bytes(b"")
    assert score(imagecot, "--images", "im", "--out", "o")[0] == 1
    broken.write_bytes(kept)
    code, found, err = score(imagecot, "--images", "im", "--out", "o")
    assert code == 0 and "the images have changed" in err
    assert found["score"]["images"] == 4 and Path("o/score_lists.json").exists()
    before = Path("o/results.jsonl").stat().st_mtime_ns
    assert score(imagecot, "--images", "im", "--out", "o")[1] == found
    assert Path("o/results.jsonl").stat().st_mtime_ns == before
    broken.write_bytes(b"")
    assert score(imagecot, "--images", "im", "--out", "o")[0] == 1
    assert not Path("o/score_lists.json").exists()


def test_nothing_to_score_leaves_nothing(imagecot, scripted):
    for file in scripted.glob("*/samples/*.png"):
        file.write_bytes(b"")
    code, _, err = score(imagecot, "--images", "im", "--out", "o")
    assert code == 1 and "not one image could be scored" in err
    assert not list(Path("o").glob("*"))


def test_another_evaluation_is_not_overwritten(imagecot, scripted):
    assert score(imagecot, "--images", "im", "--out", "o")[0] == 0
    Path("other.jsonl").write_text(ROWS.read_text().replace("red?", "red, all of them?"))
    for more in ({"judge": "imagecot.checks.toys:AnsweringToy"}, {"data": Path("other.jsonl")}):
        code, _, err = score(imagecot, "--images", "im", "--out", "o", **more)
        assert code == 2 and "o holds another evaluation" in err
    Path("o/summary.json").write_text("{}")
    code, _, err = score(imagecot, "--images", "im", "--out", "o")
    assert code == 1 and "o/summary.json" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "give either images"),
        (("--images", "im", "--generator", "tiny"), 2, "give either images"),
        (("--images", "im", "--verifier", "tiny-orm"), 2, "leave them out with images"),
        (("--images", "nowhere"), 2, "nowhere is no folder"),
        (("--generator", "tinny"), 2, "did you mean tiny?"),
        (("--images", "im", "--judge", "tiny-zero-shoot"), 2, "did you mean tiny-zero-shot?"),
        (("--images", "im", "--per-count", "0"), 2, "--per-count must be at least 1"),
        (("--images", "im", "--samples", "0"), 2, "--samples must be at least 1"),
        (("--images", "im", "--judge", "imagecot.checks.toys:ToyVerifier"), 2, "answers yes/no questions alone"),
        (("--images", "im", "--judge", "self"), 2, "names the generator that draws as the verifier"),
        (("--generator", "tiny", "--judge", "self"), 2, "tiny cannot judge"),
        (("--images", "im", "--judge", "scripted:Broken"), 1, "Broken.answer_probability is not a probability"),
    ],
)
def test_mistakes_are_one_sentence(imagecot, scripted, arguments, code, told):
    judge = () if "--judge" in arguments else ("--judge", "scripted:Judge")
    got, out, err = imagecot("evaluate", "geneval2", "--data", str(ROWS), *judge, *arguments, "--out", "x")
    assert (got, out) == (code, "")
    assert told in err and err.count("\n") == 1
    assert not Path("x").exists()


def test_a_recipe_is_followed_like_the_command(imagecot, scripted):
    Path("two.yaml").write_text(f"kind: geneval2\ndata: {ROWS}\nimages: im\njudge: scripted:Judge\noutput: o\n")
    code, out, _ = imagecot("run", "two.yaml")
    assert code == 0 and out.startswith("| skill | questions | AM |")
    found = run(Geneval2Recipe(data=ROWS, images="im", judge="scripted:Judge", output="p"))
    assert found is not None and found == read_summary(Path("p"))
    assert found.score == read_summary(Path("o")).score
    code, _, err = imagecot("run", "two.yaml", "samples=0")
    assert code == 2 and "samples: input should be greater than or equal to 1" in err


# --- drawn here, judged by a vision-language model


def test_drawn_and_judged(imagecot, quick_tiny):
    """Numbers are no answers that this judge was taught; their probability is what it is, as of its own softmax."""
    drawn = ("--generator", str(quick_tiny), "--per-count", "1", "--samples", "2")
    code, found, err = score(imagecot, *drawn, "--out", "o", judge="tiny-zero-shot")
    assert (code, err) == (0, "")
    rows, judge = rows_of("o"), registry.load("verifier", "tiny-zero-shot")
    assert [row["filename"] for row in rows] == [f"images/0000{k}/samples/000{s}.png" for k in (0, 1) for s in (0, 1)]
    for row in rows:
        atoms = Benchmark.read(ROWS).rows[row["prompt"]].atoms
        image = read_image(Path("o", row["filename"]))[None]
        alone = [judge.answer_probability(image, [asked(q)], [spelled(a)]).item() for q, a, _ in atoms]
        assert row["scores"] == pytest.approx(alone, rel=1e-4)
        assert 0 < row["scores"][0] < row["scores"][2]
        assert row["gm"] == pytest.approx(gmean(alone), rel=1e-4)
    assert len({row["gm"] for row in rows}) == 4
    generator = found["record"]["drawing"]["generator"]
    assert (generator["steps"], generator["image"]) == (4, [64, 64])
    assert "guidance_scale" in generator["settings"] and found["record"]["run"]["seed"] == 0
    assert {"verifier_judge", "generator"} <= {*found["record"]["run"]["weights"]}
    again = ("--images", "o/images", "--per-count", "1", "--samples", "2")
    code, read, _ = score(imagecot, *again, "--out", "p", judge="tiny-zero-shot")
    assert code == 0
    assert read["score"]["overall"]["gm"]["mean"] == pytest.approx(found["score"]["overall"]["gm"]["mean"], rel=1e-4)


def test_a_prompt_that_cannot_be_drawn_is_told_before(imagecot, quick_tiny):
    Path("rows.jsonl").write_text(json.dumps({**GOOD, "prompt": "two red apples " * 100}) + "\n")
    drawn = ("--generator", str(quick_tiny), "--out", "x")
    code, _, err = score(imagecot, *drawn, data=Path("rows.jsonl"), judge="imagecot.checks.toys:AnsweringToy")
    assert code == 2 and "shorten" in err and not Path("x").exists()


def test_a_job_goes_to_other_processes(quick_tiny, tmp_path):
    recipe = Geneval2Recipe(data=ROWS, generator=str(quick_tiny), judge="tiny-zero-shot", output=tmp_path / "o")
    job = Job.of(recipe)
    assert pickle.loads(pickle.dumps(job)) == job
    assert job.identity == Job.of(recipe).identity


def command(quick_tiny: Path, out: Path, workers: int = 1) -> list[str]:
    drawn = ["evaluate", "geneval2", "--data", str(ROWS), "--generator", str(quick_tiny), "--judge", "tiny-zero-shot"]
    search = ["--search", "best-of-n", "--verifier", "tiny-orm", "-n", "2"]
    return [*drawn, *search, "--workers", str(workers), "--out", str(out)]


def test_killed_and_resumed_equals_undisturbed(tmp_path, imagecot, quick_tiny):
    """The process is killed when a unit is done; the resumed run ends with the same files."""
    told = (tmp_path / "told").open("w+")
    killed = subprocess.Popen(
        [sys.executable, "-m", "imagecot", *command(quick_tiny, tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=told, stderr=told,
    )  # fmt: skip
    until = time.monotonic() + 300
    while not list((tmp_path / "killed/parts").glob("0*.json")) and time.monotonic() < until:
        assert killed.poll() is None, Path(told.name).read_text()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    told.close()
    assert 1 <= len(list((tmp_path / "killed/parts").glob("0*.json"))) < 4
    assert not (tmp_path / "killed/results.jsonl").exists()
    for name in ("killed", "whole"):
        assert imagecot(*command(quick_tiny, tmp_path / name))[0] == 0
    for name in ("results.jsonl", "score_lists.json", "table.md", "evaluation.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "killed/parts").exists()
    assert read_summary(tmp_path / "killed").score == read_summary(tmp_path / "whole").score


def test_a_generator_judges_itself(imagecot, tmp_path):
    """By one copy of its weights; a judge by the same name is recorded, whose answers are those of the folder."""
    folder = str(write_janus(tmp_path / "janus", max_position_embeddings=2048))
    drawn = ("--generator", folder, "--per-count", "1")
    rows = ROWS.read_text().splitlines()
    one = {**json.loads(rows[1]), "vqa_list": [["Is the cup green?", "Yes"]], "skills": ["attribute"], "atom_count": 1}
    Path("rows.jsonl").write_text(json.dumps(one) + "\n")
    code, found, err = score(imagecot, *drawn, "--out", "o", data=Path("rows.jsonl"), judge="self")
    assert (code, err) == (0, "")
    assert found["record"]["judge"]["judge"] == folder
    code, other, _ = score(imagecot, *drawn, "--out", "p", data=Path("rows.jsonl"), judge=folder)
    assert code == 0 and other["score"] == found["score"] and 0 < found["score"]["overall"]["am"]["mean"] < 1


def test_a_served_judge(imagecot, scripted, monkeypatch):
    """By the probabilities that a server tells; an answer that it does not tell counts as 0, and is counted."""
    pytest.importorskip("openai")
    monkeypatch.setenv(KEY, "sk-0123456789abcdef")
    with server(judges({"two": 0.5, "Yes": 0.25, "2": 0.125, " yes": 0.0625, "tw": 0.03125, " ": 0.015625})) as there:
        code, found, err = score(imagecot, "--images", "im", "--out", "o", judge=f"{there.url}#seer")
        assert (code, err) == (0, "")
        texts = [body["messages"][0]["content"][1]["text"] for body in there.bodies]
    rows = rows_of("o")
    assert rows[0]["scores"] == pytest.approx([0.65625, 0.3125, 0.3125])
    assert [row["scores"][0] for row in rows[1:]] == [0, 0, 0] and [row["gm"] for row in rows[1:]] == [0, 0, 0]
    assert found["score"]["zeros"] == 4
    assert "Is the cup green? Answer in one word." in texts
    code, _, err = score(imagecot, "--images", "im", "--out", "p", judge="http://name:hidden-word@localhost/v1#seer")
    assert code == 2 and "hidden-word" not in err and not Path("p").exists()


@pytest.mark.slow
def test_workers_share_the_work(tmp_path, imagecot, quick_tiny):
    for name, workers in (("alone", 1), ("shared", 2)):
        assert imagecot(*command(quick_tiny, tmp_path / name, workers))[0] == 0
    alone, shared = (rows_of(str(tmp_path / name)) for name in ("alone", "shared"))
    for one, other in zip(alone, shared, strict=True):
        assert one["filename"] == other["filename"]
        assert one["scores"] == pytest.approx(other["scores"], rel=1e-3)
    assert math.isfinite(alone[0]["gm"])
