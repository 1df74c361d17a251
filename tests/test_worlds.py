"""Worlds: what belongs to a detector's name, shipped and of somebody else, and what curations do with other models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from imagecot.contracts import Stream, World, fork_seeds, path_seeds, uniforms
from imagecot.contracts.metadata import Metadata, Need
from imagecot.contracts.randomness import prompt_seed
from imagecot.curation.corrections import write_corrections
from imagecot.curation.dataset import read_rows
from imagecot.curation.schema import CorrectionRow
from imagecot.errors import UsageError
from imagecot.geneval.prompts import OBJECT_NAMES, TASKS, load_benchmark_prompts
from imagecot.geneval.published import DETECTOR
from imagecot.images import from_png
from imagecot.worlds import find
from imagecot.worlds.drawn.captions import held_out_prompts, held_out_texts
from imagecot.worlds.drawn.scenes import KINDS

torch.set_num_threads(1)


@pytest.fixture
def dots(tmp_path, monkeypatch):
    """The folder of somebody who has the module beside his work."""
    shutil.copy(Path(__file__).parent / "data/outside/dots.py", tmp_path / "dots.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "dots", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_name_of_a_detector_tells_its_world(tmp_path):
    for name in ("pictograms", "pictograms-2"):
        assert find.world_of(name).name == "drawn"
        assert find.classes_of(name) == KINDS
        assert find.benchmark_of(name) == held_out_prompts()
        assert {*find.judges_of(name)} == {"pictograms", "pictograms-2"}
        assert find.judges_of(name)[0] == name
    first, second = find.load_judges("pictograms-2")
    assert (first.name, second.name) == ("pictograms (transformer)", "pictograms (convolutional)")
    for name in (DETECTOR, "mask2former.pth", str(tmp_path), "somebody/else"):
        assert find.world_of(name).name == "geneval"
        assert find.classes_of(name) == OBJECT_NAMES
        assert find.held_out_of(name) == [m.prompt for m in load_benchmark_prompts()]
        assert find.judges_of(name) == [name]


def test_both_worlds_are_worlds_and_train_on_no_test_prompt():
    for name, tests in (("drawn", held_out_texts()), ("geneval", {m.prompt for m in load_benchmark_prompts()})):
        world = find.world(name)
        assert isinstance(world, World)
        assert world.name == name
        prompts = find.training_prompts_of(world, 5, 1)
        # Of the benchmark's classes every single object is asked for by a test prompt.
        assert {m.tag for m in prompts} | {"single_object"} == set(TASKS)
        assert not {m.prompt for m in prompts} & tests
        assert {need.name for m in prompts for need in m.include} <= set(world.classes)
        assert prompts == world.training_prompts(5, 1)
    assert find.world("drawn").words >= {"apple", "cups", "red"}
    assert find.world("geneval").words is None
    assert find.world("tiny").name == "drawn"  # its old name
    with pytest.raises(UsageError, match="there is no world 'nowhere'"):
        find.world("nowhere")


class Flags:
    """A world of one prompt; what it returns is given."""

    name, classes, judges, words = "flags", ("flag",), ("eye",), None

    def __init__(self, prompts):
        self.prompts = lambda: prompts
        self.training_prompts = lambda per_task, seed: prompts[:per_task]

    def load_judges(self, name, colors=None):
        return []


FLAG = {"tag": "colors", "include": [{"class": "flag", "count": 1, "color": "red"}], "prompt": "a red flag"}


def test_prompts_of_a_world_are_mappings_or_metadata():
    for prompts in ([FLAG], [Metadata.of(FLAG)], [{**FLAG, "note": [1]}, Metadata.of({**FLAG, "prompt": "flag"})]):
        home = Flags(prompts)
        found = find.prompts_of(home)
        assert found == [m if isinstance(m, Metadata) else Metadata.of(m) for m in prompts]
        assert find.training_prompts_of(home, 1, 0) == found[:1]


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ([], "at least one"),
        ((FLAG,), "must be a list"),
        ([7], "mapping"),
        ([FLAG, {**FLAG, "tag": "flags"}], "prompt 2"),
        ([{**FLAG, "include": [{"class": "flag", "count": 1, "color": "crimson"}]}], "prompt 1.*colour"),
        ([{**FLAG, "include": [{"class": "boat", "count": 1}]}], "class of its world"),
        ([Metadata("colors", "a boat", (Need("boat"),))], "class of its world"),
        ([{**FLAG, "include": []}], "prompt 1"),
    ],
)
def test_prompts_that_no_image_can_meet_are_told_of_their_world(prompts, told):
    for ask in (find.prompts_of, lambda home: find.training_prompts_of(home, 5, 0)):
        with pytest.raises(UsageError, match=f"^Flags is no world that can be used: .*{told}"):
            ask(Flags(prompts))


def test_a_world_is_made_without_torch():
    code = (
        "import sys\nfrom imagecot.worlds import find\nfor name in ('drawn', 'geneval'):\n"
        "    world = find.world(name)\n    world.judges, world.classes, world.prompts()\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_detector_of_somebody_else_finds_its_own_classes(dots):
    assert find.classes_of("dots:Sight") == ("dot", "bar")
    assert find.world_of("dots:Sight").name == "geneval"
    assert [judge.name for judge in find.load_judges("dots:Sight")] == ["sight"]
    assert len(find.digests("dots:Sight")["detector"]) == 64
    assert find.world_of("sees-dots", "dots:Dots").name == "dots"
    assert [judge.name for judge in find.load_judges("sees-dots", first="dots:Dots")] == ["sight"]


def plain(prompt: str, seed: int, steps: int, before: list[int] | None = None, ink: int = 1) -> list[int]:
    """The codes of a path after so many steps, from nothing but its codes before."""
    codes = [] if before is None else [*before]
    while len(codes) < 3 * steps:
        chance = uniforms(torch.tensor([seed]), len(codes) // 3, Stream.USER, 3)[0]
        codes += [int(float(u * 5 + (len(prompt) + sum(codes) + ink))) % 5 for u in chance]
    return codes


def test_a_world_of_somebody_else_is_evaluated_by_its_own_judge(imagecot, dots):
    asked = ("--generator", "dots:Pen", "--prompts", "dots:Dots", "--samples", "3", "--seed", "4", "--out", "eval")
    code, out, err = imagecot("evaluate", "geneval", *asked, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in Path("eval/results.jsonl").read_text().splitlines()]
    expected = []
    for kind in ("dot", "bar"):
        prompt = f"a photo of a {kind}"
        ends = [plain(prompt, seed, 2)[-1] for seed in path_seeds(prompt_seed(4, prompt), 3).tolist()]
        expected += [(end / 4 < 0.5) == (kind == "dot") for end in ends]
    assert [row["correct"] for row in rows] == expected
    assert set(expected) == {True, False}
    summary = json.loads(out)
    assert summary["record"]["detector"] == {"detector": "sight", "weights": "none"}
    assert summary["record"]["run"]["generator_settings"] == {"ink": 1}
    # The same class with another setting is another evaluation.
    file = dots / "dots.py"
    file.write_text(file.read_text().replace("ink: int = 1", "ink: int = 2"))
    del sys.modules["dots"]
    code, _, err = imagecot("evaluate", "geneval", *asked)
    assert code == 2
    assert "holds another evaluation" in err


def test_prm_labels_of_a_raster_generator_are_those_of_plain_loops(imagecot, dots):
    assert imagecot("curate", "prompts", "--world", "dots:Dots", "--seed", "3", "--out", "p.jsonl")[0] == 0
    asked = ("--prompts", "p.jsonl", "--generator", "dots:Pen", "--detector", "dots:Sight", "--seed", "2")
    code, _, err = imagecot("curate", "prm", *asked, "--out", "prm")
    assert code == 0, err
    expected = {}
    for kind in ("dot", "bar"):
        prompt = f"picture 3 of a {kind}"
        seed = path_seeds(prompt_seed(2, prompt), 1)
        half, whole = plain(prompt, int(seed), 1), plain(prompt, int(seed), 2)
        ends = [plain(prompt, fork, 2, half)[-1] for fork in fork_seeds(seed, 4).tolist()]
        expected[prompt, 1] = half + [0] * 3, any((end / 4 < 0.5) == (kind == "dot") for end in ends)
        expected[prompt, 2] = whole, (whole[-1] / 4 < 0.5) == (kind == "dot")
    rows = {(row.prompt, row.step): row for row in read_rows("prm")}
    assert {key: row.label == "yes" for key, row in rows.items()} == {key: v for key, (_, v) in expected.items()}
    for key, (codes, _) in expected.items():
        shown = from_png(rows[key].image)
        assert shown.shape == (3, 8, 12)
        assert torch.allclose(shown[0, ::4, ::4].flatten(), torch.tensor(codes) / 4, atol=1 / 255)


def test_orm_keeps_the_codes_and_the_settings(imagecot, dots):
    imagecot("curate", "prompts", "--world", "dots:Dots", "--out", "p.jsonl")
    asked = ("curate", "orm", "--prompts", "p.jsonl", "--detector", "dots:Sight", "--paths", "6", "--keep", "6")
    assert imagecot(*asked, "--generator", "dots:Brush", "--out", "orm")[0] == 0
    for row in read_rows("orm"):
        assert row.codes == plain(row.prompt, row.seed, 2)
        assert (row.label == "yes") == ((row.codes[-1] / 4 < 0.5) == row.prompt.endswith("dot"))
    assert json.loads(Path("orm/curation.json").read_text())["settings"] == {"ink": 1}
    # A finished folder of other settings is another curation, by an option or by the code.
    code, _, err = imagecot(*asked, "--generator", "dots:Brush", "--temperature", "2", "--out", "orm")
    assert code == 2
    assert "another curation (temperature null, not 2.0)" in err
    assert imagecot(*asked, "--generator", "dots:Brush", "--temperature", "2", "--out", "hot")[0] == 0
    assert json.loads(Path("hot/curation.json").read_text())["settings"] == {"ink": 1, "temperature": 2.0}
    file = dots / "dots.py"
    file.write_text(file.read_text().replace("ink: int = 1", "ink: int = 2"))
    del sys.modules["dots"]
    code, _, err = imagecot(*asked, "--generator", "dots:Brush", "--out", "orm")
    assert code == 2
    assert "holds another curation" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("orm", "--generator", "dots:Pen", "--temperature", "2"), "draws at no other temperature than its own"),
        (("orm", "--generator", "dots:Palette"), "has 40,000 codes"),
        (("parm", "--generator", "dots:Pen"), "paths of 2 steps have none"),
        (("orm", "--generator", "dots:Nobody"), "dots has no 'Nobody'"),
        (("orm", "--generator", "dots:Sight"), "dots:Sight is no generator: it has no"),
        (("orm", "--generator", "dots:Pen", "--detector", "dots:Pen"), "dots:Pen is no detector: it has no"),
    ],
)
def test_what_a_generator_cannot_do_is_one_sentence(imagecot, dots, arguments, told):
    imagecot("curate", "prompts", "--world", "dots:Dots", "--out", "p.jsonl")
    kind, *options = arguments
    code, out, err = imagecot(
        "curate", kind, "--prompts", "p.jsonl", "--detector", "dots:Sight", *options, "--out", "out"
    )
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_redraws_need_a_corrector_and_its_codes(imagecot, dots):
    metadata = {"tag": "single_object", "include": [{"class": "dot", "count": 1}], "prompt": "picture of a dot"}
    prompt, told = metadata["prompt"], "there is no dot."
    group = CorrectionRow(
        "a", prompt, metadata["tag"], json.dumps(metadata), told, 1, 2, [1, 2, 3, 4, 0, 1], [0] * 6, 0.1
    )
    write_corrections(Path("groups"), [group], {})
    asked = ("curate", "redraws", "--data", "groups", "--detector", "dots:Sight", "--paths", "4", "--out", "again")
    code, _, err = imagecot(*asked, "--generator", "dots:Pen")
    assert code == 2
    assert "dots:Pen cannot draw a rejected image again" in err
    code, _, err = imagecot(*asked, "--generator", "tiny-self-correct")
    assert code == 1
    assert "the rejected images are not 64 codes" in err
    assert not Path("again").exists()
    assert imagecot(*asked, "--generator", "dots:Eraser")[0] == 0
    for row in read_rows("again"):
        told = f"{row.prompt} {row.told} {torch.tensor(group.rejected_codes)}"
        assert row.codes == plain(told, row.seed, 2)


def test_repairs_need_an_encoder_of_the_worlds_size(imagecot, dots):
    asked = ("curate", "repairs", "--scenes", "2", "--out", "out")
    for generator, told in (("dots:Pen", "and this one finds none"), ("dots:Sight", "is no generator")):
        code, _, err = imagecot(*asked, "--generator", generator)
        assert code == 2
        assert told in err
    assert not Path("out").exists()


def test_folders_from_before_settings_are_continued(imagecot, tmp_path):
    """Then the own temperature of all generators was the default, and written down."""
    imagecot("curate", "prompts", "--per-task", "1", "--out", "all.jsonl")
    Path("p.jsonl").write_text(Path("all.jsonl").read_text().splitlines(keepends=True)[0])
    asked = ("curate", "orm", "--prompts", "p.jsonl", "--paths", "2", "--out", "orm")
    assert imagecot(*asked)[0] == 0
    rows = list(read_rows("orm"))
    identity = json.loads(Path("orm/curation.json").read_text())
    assert identity.pop("settings")["temperature"] == 1.0
    assert identity["temperature"] is None
    Path("orm/curation.json").write_text(json.dumps({**identity, "temperature": 1.0}) + "\n")
    assert imagecot(*asked)[0] == 0
    Path("orm/data/00000.parquet").unlink()
    assert imagecot(*asked)[0] == 0
    assert list(read_rows("orm")) == rows
    Path("orm/curation.json").write_text(json.dumps({**identity, "temperature": 1.5}) + "\n")
    code, _, err = imagecot(*asked)
    assert code == 2
    assert "temperature 1.5, not 1.0" in err
