"""One run, one folder: interrupted, finished, another's."""

import dataclasses
import json

import pytest
import torch

import imagecot.strategies.run as run_module
from imagecot.contracts.search import Candidate, Cost, Verdict
from imagecot.errors import UsageError
from imagecot.strategies.resume import Partial
from imagecot.strategies.search import search
from imagecot.strategies.trace import Trace
from plain_decoder import tiny_generator
from small_models import Brightness, Flat

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


class Interrupted(Brightness):
    """Answers for one group of paths; Ctrl-C comes in the second."""

    def ask(self, images, prompts, question, after=None):
        if self.usage.judge_calls:
            raise KeyboardInterrupt
        return super().ask(images, prompts, question, after)


@pytest.fixture(autouse=True)
def groups_of_two(monkeypatch):
    monkeypatch.setattr(run_module, "LARGEST_GROUP", 2)


def run(folder, **change):
    request = {"generator": Flat(steps=3), "verifier": Brightness(), "n": 5, "seed": 4, **change}
    names = {"generator": "flat", "verifier": "brightness"}
    return search(PROMPT, folder=folder, names=names, **request)


def counts(cost: Cost) -> Cost:
    return dataclasses.replace(cost, seconds=0.0, judge_seconds=0.0)


@pytest.mark.parametrize("make", [lambda: Flat(steps=3), lambda: tiny_generator(steps=3)], ids=["flat", "showo"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(make, tmp_path):
    whole = run(tmp_path / "whole", generator=make())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", generator=make(), verifier=Interrupted())
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == ["partial"]
    generator, verifier, progress = make(), Brightness(), []
    resumed = run(
        tmp_path / "cut", generator=generator, verifier=verifier, progress=lambda *done: progress.append(done)
    )
    assert verifier.usage.judge_calls == 3  # the first two paths were not judged again
    assert progress[0] == (6, 15)
    assert progress[-1] == (15, 15)
    if isinstance(generator, Flat):
        assert generator.batches == [2, 2, 2, 1, 1, 1]
    assert resumed.candidates == whole.candidates
    assert resumed.chosen == whole.chosen
    assert counts(resumed.cost) == counts(whole.cost)
    files = ["image.png", "previews.zip", "steps.png", "trace.jsonl"]
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == files
    assert (tmp_path / "cut/image.png").read_bytes() == (tmp_path / "whole/image.png").read_bytes()


def test_a_finished_run_is_read_back_and_nothing_computed(tmp_path):
    first = run(tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    generator, verifier = Flat(steps=3), Brightness()
    again = run(tmp_path / "out", generator=generator, verifier=verifier)
    assert (generator.batches, verifier.usage.judge_calls) == ([], 0)
    assert again.chosen == first.chosen
    assert again.cost == first.cost
    assert again.image.tobytes() == first.image.tobytes()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before


def test_what_a_kill_at_the_very_end_left_behind_is_removed(tmp_path):
    run(tmp_path / "out")
    (tmp_path / "out/partial").mkdir()
    run(tmp_path / "out")
    assert not (tmp_path / "out/partial").exists()


@pytest.mark.parametrize(
    ("change", "different"),
    [
        ({"seed": 5}, "seed 4, not 5"),
        ({"n": 6}, "n 5, not 6"),
        ({"generator": Flat(steps=2)}, "steps 3, not 2"),
        ({"strategy": "single"}, 'strategy "best-of-n", not "single"'),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_run_in_the_folder_is_refused(change, different, finished, tmp_path):
    if finished:
        run(tmp_path / "out")
    else:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", verifier=Interrupted())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=f"holds another run .{different}.; choose another folder"):
        run(tmp_path / "out", **change)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="holds no run of imagecot"):
        run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="is a file; give a folder"):
        run(tmp_path / "thesis.tex")


def test_an_empty_folder_is_used(tmp_path):
    assert run(tmp_path).chosen == Trace.load(tmp_path).chosen


def test_a_run_that_failed_before_its_first_part_does_not_block_the_folder(tmp_path):
    class Broken(Flat):
        def advance(self, paths):
            raise MemoryError

    with pytest.raises(MemoryError):
        run(tmp_path, generator=Broken(steps=3))
    assert [file.name for file in tmp_path.iterdir()] == ["partial"]
    assert run(tmp_path, n=2).n == 2


def test_a_damaged_header_is_refused(tmp_path):
    (tmp_path / "trace.jsonl").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        run(tmp_path)


def test_a_damaged_part_is_done_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, verifier=Interrupted())
    (part,) = tmp_path.glob("partial/*.safetensors")
    part.write_bytes(part.read_bytes()[:-1])
    verifier = Brightness()
    trace = run(tmp_path, verifier=verifier)
    assert verifier.usage.judge_calls == 5
    assert counts(trace.cost).generator_rows == 15


def test_a_part_keeps_everything_about_its_paths(tmp_path):
    trace = run(None)
    stopped = Candidate(
        seed=2**53 - 1,
        truncated_at=2,
        first_clear=1,
        verdicts=[Verdict(1, "clarity", 0.75), Verdict(2, "potential", 1 / 3)],
        codes={1: torch.tensor([-1], dtype=torch.int32)},
    )
    candidates, cost = [stopped, trace.candidates[0]], Cost(1.5, 0.5, 6, 2, 3, 40)
    partial = Partial(tmp_path, {"prompt": PROMPT})
    partial.save("paths", candidates, cost)
    loaded, spent = partial.load("paths")
    assert (loaded, spent) == (candidates, cost)
    for before, after in zip(candidates, loaded, strict=True):
        assert before.codes.keys() == after.codes.keys()
        assert all(torch.equal(before.codes[step], after.codes[step]) for step in before.codes)
    assert partial.load("others") is None
    assert json.loads((tmp_path / "partial/run.json").read_text()) == {"prompt": PROMPT}
