"""`imagecot evaluate geneval`: rendered scenes score what they show, gaps are told, interrupted runs end the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from imagecot.contracts.metadata import Metadata
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds, prompt_seed
from imagecot.evaluation.folder import read_folder, read_image, write_entry
from imagecot.evaluation.state import Piece, pieces
from imagecot.generators import load_generator
from imagecot.geneval.metadata import parse_metadata, read_metadata
from imagecot.geneval.summary import summarize
from imagecot.worlds.drawn.captions import held_out_prompts
from imagecot.worlds.drawn.scenes import KINDS, compose, draw

torch.set_num_threads(1)


def rendered(metadata: Metadata, seed: int = 0) -> torch.Tensor:
    """A picture that is right for a requirement."""
    picture = draw(compose(metadata, random.Random(seed)))
    return torch.tensor(list(picture.tobytes())).view(64, 64, 3).permute(2, 0, 1).float() / 255


@pytest.fixture
def image_set(tmp_path) -> Path:
    """Two prompts a task, two images each: the first right, the second of the next prompt and so mostly wrong."""
    prompts = held_out_prompts(2)
    for k, metadata in enumerate(prompts):
        other = prompts[(k + 2) % len(prompts)]
        write_entry(tmp_path / "set" / f"{k:05d}", metadata, torch.stack([rendered(metadata), rendered(other)]))
    return tmp_path / "set"


def score(imagecot, folder: Path, *more: str) -> tuple[int, dict, str]:
    code, out, err = imagecot(
        "evaluate", "geneval", "--images", str(folder), "--detector", "pictograms", "--samples", "2", "--json", *more
    )
    return code, json.loads(out) if out.startswith("{") else {}, err


def test_rendered_scenes_score_what_they_show(imagecot, image_set, painted):
    code, summary, _ = score(imagecot, image_set, "--out", "scored")
    assert code == 0
    rows = [json.loads(line) for line in Path("scored/results.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    first = [row for row in rows if row["filename"].endswith("0000.png")]
    second = [row for row in rows if row["filename"].endswith("0001.png")]
    assert all(row["correct"] for row in first), [row["reason"] for row in first]
    wrong = [row for row in second if not row["correct"]]
    assert len(wrong) >= 8
    assert all(row["reason"] for row in wrong)
    table = summarize(rows)
    assert summary["score"]["overall"] == pytest.approx(table.overall)
    assert summary["score"]["tasks"]["counting"]["se"] == pytest.approx(table.tasks["counting"].se)
    assert summary["second_judge"]["overall"] >= 0.4
    assert summary["agreement"] >= 0.9
    assert summary["record"]["detector"]["weights"] != summary["record"]["second"]["weights"]
    details = json.loads(first[0]["details"])
    kind = json.loads(first[0]["metadata"])["include"][0]["class"]
    assert len(details[kind][0]) == 5
    with Image.open("scored/failures.png") as page:
        assert page.width > 500
    assert not Path("scored/parts").exists()


def test_a_finished_evaluation_is_reported_again_and_compared(imagecot, image_set):
    score(imagecot, image_set, "--out", "a")
    before = Path("a/results.jsonl").stat().st_mtime_ns
    code, again, _ = score(imagecot, image_set, "--out", "a")
    assert code == 0
    assert Path("a/results.jsonl").stat().st_mtime_ns == before
    code, compared, _ = score(imagecot, image_set, "--out", "b", "--against", "a")
    assert compared["against"]["difference"] == 0
    assert compared["against"]["p_value"] == 1
    assert compared["score"] == again["score"]


def test_gaps_are_told_and_the_rest_is_scored(imagecot, image_set):
    (image_set / "00001/samples/0001.png").unlink()
    (image_set / "00002/samples/0000.png").write_bytes(b"\x89PNG broken")
    two = image_set / "00003/metadata.jsonl"
    two.write_text(two.read_text() * 2)
    strange = image_set / "00004/metadata.jsonl"
    strange.write_text(strange.read_text().replace('"class": "', '"class": "giant '))
    (image_set / "00005/metadata.jsonl").unlink()
    (image_set / "00006/samples/notes.txt").write_text("hello")
    code, summary, _ = score(imagecot, image_set, "--out", "scored")
    assert code == 1
    text = "\n".join(summary["problems"])
    for told in ("has 1 of 2 images", "no readable picture", "has 2 lines, not one", "does not know", "is missing"):
        assert told in text
    assert "notes.txt is not named like 0000.png" in text
    assert "has nothing of counting" in text  # both of its prompts are damaged
    assert summary["score"]["total_images"] == 24 - 1 - 1 - 3 * 2
    code, out, err = imagecot(
        *("evaluate", "geneval", "--images", str(image_set), "--detector", "pictograms", "--samples", "2"),
        *("--out", "scored"),
    )
    assert code == 1
    assert "INCOMPLETE: 7 problems" in out
    assert "problem:" in err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--images", "nowhere"), 2, "is no folder"),
        ((), 2, "give either images"),
        (("--images", ".", "--generator", "tiny"), 2, "give either images"),
        (("--generator", "tinny"), 2, "did you mean tiny?"),
        (("--generator", "showlab/show-o", "--search", "best-of-n"), 2, "best-of-n needs a verifier"),
        (
            ("--generator", "tiny", "--search", "parm", "--keep", "2"),
            2,
            "less than or equal to 1, not 2",
        ),
        (("--generator", "tiny", "--keep", "0.5"), 2, "single has no option 'keep'; it has none"),
        (("--generator", "tiny", "--corrector", "nobody"), 2, "there is no corrector 'nobody'"),
        (("--images", ".", "--keep", "0.5"), 2, "are about images that are drawn; leave them out"),
        (("--generator", "tiny", "--search", "worst"), 2, "there is no search"),
        (("--generator", "tiny", "--samples", "0"), 2, "--samples must be at least 1"),
        (("--generator", "tiny", "--per-task", "0"), 2, "--per-task must be at least 1"),
        (("--generator", "tiny", "--prompts", "none.jsonl"), 2, "is missing"),
    ],
)
def test_mistakes_are_one_sentence(imagecot, arguments, code, told):
    got, out, err = imagecot("evaluate", "geneval", "--detector", "pictograms", *arguments)
    assert (got, out) == (code, "")
    assert told in err
    assert err.count("\n") == 1


def test_a_folder_with_nothing_in_it(imagecot, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = imagecot("evaluate", "geneval", "--images", "empty", "--detector", "pictograms")
    assert code == 2
    assert "holds no image set" in err


def test_another_evaluation_is_not_overwritten(imagecot, image_set):
    score(imagecot, image_set, "--out", "a")
    code, _, err = score(imagecot, image_set, "--out", "a", "--seed", "1", "--detector", "pictograms-2")
    assert code == 2
    assert "holds another evaluation (detector " in err
    Path("b").mkdir()
    Path("b/notes.txt").write_text("mine")
    code, _, err = score(imagecot, image_set, "--out", "b")
    assert code == 2
    assert Path("b/notes.txt").read_text() == "mine"


def test_a_command_whose_models_do_not_load_leaves_nothing(imagecot, image_set):
    """So that the corrected command can write to the same folder."""
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{}")
    drawn = ("--generator", "tiny", "--search", "best-of-n", "--detector", "pictograms", "--per-task", "1")
    for wrong in (
        (*drawn, "--verifier", "broken"),
        (*drawn, "--verifier", "broken", "--workers", "2"),
        ("--images", "broken", "--detector", "pictograms"),
    ):
        code, _, err = imagecot("evaluate", "geneval", *wrong, "--out", "out")
        assert code in (1, 2)
        assert "broken" in err
        assert not Path("out").exists()
    assert score(imagecot, image_set, "--out", "out")[0] == 0


def test_a_malformed_line_of_prompts_is_named(imagecot):
    good = held_out_prompts(1)[0].text
    for bad, told in (
        ("{", "not valid JSON"),
        ("[1]", "does not hold a JSON object"),
        (good.replace("include", "inc"), "did you mean include?"),
    ):
        Path("prompts.jsonl").write_text(f"{good}\n{bad}\n")
        code, _, err = imagecot(
            "evaluate", "geneval", "--generator", "tiny", "--prompts", "prompts.jsonl", "--out", "x"
        )
        assert code == 2
        assert "line 2 of prompts.jsonl" in err
        assert told in err
        assert not Path("x").exists()


def test_drawn_killed_and_resumed_equals_undisturbed(tmp_path, imagecot, quick_tiny):
    """The process is killed when a unit is done; the resumed run ends with the same file, as do two workers."""

    def command(name: str, workers: int) -> list[str]:
        drawn = ["evaluate", "geneval", "--generator", str(quick_tiny), "--per-task", "2", "--samples", "1"]
        return [*drawn, "--workers", str(workers), "--out", str(tmp_path / name)]

    assert imagecot(*command("whole", 1))[0] == 0
    killed = subprocess.Popen(
        [sys.executable, "-m", "imagecot", *command("killed", 1)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(6000):
        if list((tmp_path / "killed/parts").glob("0*.json")) or killed.poll() is not None:
            break
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = len(list((tmp_path / "killed/parts").glob("0*.json")))
    assert done == 1  # of 2
    assert not (tmp_path / "killed/results.jsonl").exists()
    assert imagecot(*command("killed", 1))[0] == 0
    assert imagecot(*command("shared", 2))[0] == 0
    whole = (tmp_path / "whole/results.jsonl").read_bytes()
    assert len(whole.splitlines()) == 12
    assert (tmp_path / "killed/results.jsonl").read_bytes() == whole
    # Two processes have half the threads each, so the last digits of boxes may differ, but no verdict.
    alone, shared = (
        [json.loads(line) for line in (tmp_path / name / "results.jsonl").read_text().splitlines()]
        for name in ("whole", "shared")
    )
    for one, other in zip(alone, shared, strict=True):
        assert {**one, "details": ""} == {**other, "details": ""}
    image = "images/00007/samples/0000.png"
    assert (tmp_path / "killed" / image).read_bytes() == (tmp_path / "whole" / image).read_bytes()


def levels(file: Path) -> torch.Tensor:
    return (read_image(file) * 255).round()


def test_single_images_are_those_of_their_seeds(imagecot, tmp_path, quick_tiny):
    """Each path drawn alone: those of several prompts in one batch are the same, but for the last bit of a pixel."""
    drawn = ("evaluate", "geneval", "--generator", str(quick_tiny), "--per-task", "1", "--samples", "2", "--seed", "3")
    assert imagecot(*drawn, "--out", "out")[0] == 0
    generator = load_generator(quick_tiny)
    for number, metadata in enumerate(held_out_prompts(1)):
        for sample, seed in enumerate(path_seeds(prompt_seed(3, metadata.prompt), 2)):
            paths = finish(generator, generator.start([metadata.prompt], seed[None]))
            image = (generator.preview(paths)[0] * 255).round()
            assert (levels(tmp_path / f"out/images/{number:05d}/samples/{sample:04d}.png") - image).abs().max() <= 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    rows = 12 * 4 * generator.rows_per_path
    assert (summary["cost"]["generator_rows"], summary["cost"]["previews"]) == (rows, 12)
    assert summary["cost"]["judge_calls"] == 0


def test_a_search_is_set_as_in_generate(imagecot, tmp_path, quick_tiny):
    """What is not given comes from the checkpoints; it belongs to the evaluation, whose images are generate's."""
    (tmp_path / "prompts.jsonl").write_text(held_out_prompts(1)[0].text + "\n")
    call = ["evaluate", "geneval", "--generator", str(quick_tiny), "--prompts", "prompts.jsonl", "--samples", "1"]
    call += ["--search", "parm", "-n", "5", "--first-step", "2", "--json"]
    code, out, err = imagecot(*call, "--out", "out")
    assert code == 0, err
    run = json.loads(out)["record"]["run"]
    assert (run["verifier"], run["search_settings"]) == ("tiny-parm", {"first_step": 2, "keep": 0.4})
    assert "corrector" not in run
    code, _, err = imagecot(*call, "--out", "out", "--keep", "0.9")
    assert code == 2 and "out holds another evaluation (search_settings" in err
    prompt = held_out_prompts(1)[0].prompt
    seed = int(path_seeds(prompt_seed(0, prompt), 1))
    same = ["generate", prompt, "--generator", str(quick_tiny), "-n", "5", "--seed", str(seed), "--first-step", "2"]
    assert imagecot(*same, "--out", "one")[0] == 0
    assert torch.equal(levels(tmp_path / "one/image.png"), levels(tmp_path / "out/images/00000/samples/0000.png"))


def test_a_corrector_draws_again(imagecot, tmp_path, quick_tiny):
    (tmp_path / "prompts.jsonl").write_text(held_out_prompts(1)[0].text + "\n")
    corrector = shutil.copytree(quick_tiny, tmp_path / "corrector")
    call = ["evaluate", "geneval", "--generator", str(quick_tiny), "--prompts", "prompts.jsonl", "--samples", "1"]
    call += ["--search", "parm++", "-n", "2", "--corrector", str(corrector), "--json"]
    code, out, err = imagecot(*call, "--out", "out")
    assert code == 0, err
    run = json.loads(out)["record"]["run"]
    assert (run["verifier"], run["corrector"]) == ("tiny-parm++", str(corrector))
    assert {"corrector", "corrector_settings"} <= {*run["weights"], *run}


def test_units_cover_every_prompt_once():
    assert pieces(19, 8) == [Piece("00000", 0, 8), Piece("00008", 8, 16), Piece("00016", 16, 19)]


def test_an_image_survives_the_round_trip(tmp_path):
    """What is judged after drawing is what a later evaluation reads: 8-bit levels, channels in order."""
    levels = torch.arange(3 * 64 * 64).remainder(256).view(3, 64, 64).float() / 255
    metadata = held_out_prompts(1)[0]
    (file,) = write_entry(tmp_path / "00000", metadata, levels[None])
    assert torch.equal(read_image(Path(file)), levels)
    assert read_metadata(tmp_path / "00000/metadata.jsonl", frozenset(KINDS)) == metadata
    entry = read_folder(tmp_path, 1, KINDS).entries[0]
    assert entry.problems == ()
    assert parse_metadata(json.dumps(metadata.as_json(), indent=2), "here", frozenset(KINDS)) == metadata
    shutil.rmtree(tmp_path / "00000")
