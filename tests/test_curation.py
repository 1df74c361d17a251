"""Curation: labels redone by hand, proportions, separation from the tests, bad rows, interruption."""

import json
from dataclasses import dataclass, replace

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from imagecot.contracts.correction import Correction
from imagecot.contracts.detector import Detections
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import fork_seeds, path_seeds, prompt_seed
from imagecot.curation.corrections import write_corrections
from imagecot.curation.dataset import RankingData, read_rows
from imagecot.curation.job import Filling, Job, fill
from imagecot.curation.label import Labeller, balanced, scaled
from imagecot.curation.pairs import make_pairs
from imagecot.curation.prompts import everyday_objects, prompts_of
from imagecot.curation.schema import CorrectionRow
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.prompts import TASKS, load_benchmark_prompts, single_object_metadata, training_prompts
from imagecot.images import from_png
from imagecot.watch import SILENT
from imagecot.worlds.drawn.captions import held_out_texts
from plain_decoder import tiny_generator

torch.set_num_threads(1)
STEPS = 6
PROMPTS = [single_object_metadata(name) for name in ("apple", "cup", "chair")]


@dataclass
class Bright:
    """Sees every class where an image is bright."""

    above: float
    name: str = "bright"
    classes: tuple[str, ...] = ("apple", "cup", "chair")

    def detect(self, images) -> list[Detections]:
        found = []
        for image in images:
            box = [[0, 0, 9, 9, 0.95]] if float(image.mean()) > self.above else []
            found.append(Detections(dict.fromkeys(self.classes, box), {}))
        return found

    def record(self) -> dict:
        return {}


def finals(prompt: str, count: int, seed: int) -> list[Tensor]:
    generator = tiny_generator(steps=STEPS)
    paths = generator.start([prompt], path_seeds(prompt_seed(seed, prompt), count))
    while not paths.finished:
        paths = generator.advance(paths)
    return list(generator.preview(paths))


def middle(count: int, seed: int) -> float:
    """A brightness that half of the final images exceed."""
    levels = sorted(float(image.mean()) for m in PROMPTS for image in finals(m.prompt, count, seed))
    return (levels[len(levels) // 2 - 1] + levels[len(levels) // 2]) / 2


def labeller(paths: int = 4, keep: int = 4, seed: int = 1) -> Labeller:
    return Labeller(tiny_generator(steps=STEPS), Bright(middle(paths, seed)), paths, keep, seed)


def test_orm_labels_are_the_scorers():
    made = labeller()
    rows = list(made.orm(PROMPTS))
    assert len(rows) == 12
    assert {row.label for row in rows} == {"yes", "no"}
    for metadata in PROMPTS:
        own = [row for row in rows if row.prompt == metadata.prompt]
        levels = [float(image.mean()) for image in finals(metadata.prompt, 4, 1)]
        assert [row.label for row in own] == ["yes" if v > made.detector.above else "no" for v in levels]
        assert [row.seed for row in own] == path_seeds(prompt_seed(1, metadata.prompt), 4).tolist()
        assert {(row.step, row.steps, row.question) for row in own} == {(STEPS, STEPS, "orm")}


def test_prm_labels_are_those_of_four_continuations():
    made = labeller()
    rows = list(made.prm(PROMPTS[:1]))
    assert [row.step for row in rows] == list(range(1, STEPS + 1))
    generator = tiny_generator(steps=STEPS)
    paths = generator.start([PROMPTS[0].prompt], path_seeds(prompt_seed(1, PROMPTS[0].prompt), 1))
    for row in rows:
        paths = generator.advance(paths)
        ends = []
        for seed in fork_seeds(paths.seeds, 4) if not paths.finished else paths.seeds:
            fork = paths.select([0], seeds=seed[None])
            while not fork.finished:
                fork = generator.advance(fork)
            ends.append(float(generator.preview(fork).mean()) > made.detector.above)
        assert row.label == ("yes" if any(ends) else "no")
    assert {row.question for row in rows} == {"prm"}


def test_parm_has_three_subsets_in_the_papers_proportions():
    made = Labeller(tiny_generator(steps=STEPS), Bright(middle(40, 1)), 40, 40, 1)
    rows = list(made.parm(PROMPTS))
    count = {name: sum(row.question == name for row in rows) for name in ("orm", "clarity", "potential")}
    assert count["orm"] == 120
    assert count["clarity"] == pytest.approx(0.6 * 120, abs=18)
    late, early = scaled(11, STEPS), scaled(10, STEPS)
    after = sum(row.question == "potential" and row.step > late for row in rows)
    assert after == pytest.approx(0.4 * 120, abs=18)
    assert count["potential"] == 2 * 120 + after
    final = {row.seed: row.label for row in rows if row.question == "orm"}
    assert (late, early) == (4, 3)
    generator = tiny_generator(steps=STEPS)
    for row in rows:
        if row.question == "potential":
            assert row.label == final[row.seed]
            assert scaled(6, STEPS) <= row.step < STEPS
        elif row.question == "clarity":
            assert row.label == ("yes" if row.step > late else "no")
            assert row.step > late or row.step < early
    clarity = next(row for row in rows if row.question == "clarity")
    paths = generator.start([clarity.prompt], torch.tensor([clarity.seed]))
    for _ in range(clarity.step):
        paths = generator.advance(paths)
    now = float(generator.preview(paths).mean()) > made.detector.above
    assert clarity.agreement == ("yes" if now == (final[clarity.seed] == "yes") else "no")


def test_redrawn_images_are_those_of_their_rejected_image_and_pair_among_themselves():
    groups = [
        CorrectionRow(str(k), m.prompt, m.tag, m.text, f"there is no {m.prompt}.", 1, 2, [k] * 16, [k] * 16)
        for k, m in enumerate(PROMPTS * 4)
    ]
    made = Labeller(tiny_generator(steps=STEPS), Bright(0.5), 6, 6, 1)
    made.detector.above = middle_of_redraws(made, groups)
    rows = list(made.redraws(groups))
    assert len({row.id for row in rows}) == len(rows) == 72
    for row in rows:
        k = row.before_codes[0]
        assert row.prompt == groups[k].prompt
        assert row.told in ("", groups[k].reasons)
        again = Correction(torch.tensor(row.before_codes), row.told)
        path = finish(made.generator, made.generator.correct([row.prompt], torch.tensor([row.seed]), [again]))
        assert row.codes == path.codes[0].tolist()
        assert row.label == ("yes" if float(made.generator.preview(path).mean()) > made.detector.above else "no")
    silent = [row.told == "" for row in rows[::6]]
    assert 0 < sum(silent) < 12  # about a quarter of the groups
    pairs = make_pairs(rows, seed=0, per_prompt=2)
    label = {row.seed: (row.label, row.before_codes, row.told) for row in rows}
    assert len(pairs) > len(PROMPTS)  # a rejected image counts, not a prompt
    for pair in pairs:
        own = [pair.before_codes, pair.told]
        assert [label[pair.chosen_seed], label[pair.rejected_seed]] == [("yes", *own), ("no", *own)]


def middle_of_redraws(made: Labeller, groups: list[CorrectionRow]) -> float:
    """A brightness that half of the redrawn images exceed."""
    levels = sorted(float(from_png(row.image).mean()) for row in made.redraws(groups))
    return (levels[len(levels) // 2 - 1] + levels[len(levels) // 2]) / 2


@pytest.mark.parametrize(
    ("labels", "keep", "kept"),
    [
        ("ynyn", 4, [0, 1, 2, 3]),
        ("yyyn", 2, [0, 3]),
        ("yyyy", 2, [0, 1]),
        ("nnnn", 3, [0, 1, 2]),
        ("nnny", 3, [0, 1, 3]),
        ("nyny", 1, [0]),
    ],
)
def test_balanced_by_hand(labels, keep, kept):
    assert balanced([label == "y" for label in labels], keep) == kept


def test_everyday_prompts_avoid_the_benchmark():
    names = everyday_objects()
    assert len(names) == len(set(names)) == 200
    tests = {m.prompt.casefold() for m in load_benchmark_prompts()}
    prompts = training_prompts(names, 50, 0, tests)
    assert len(prompts) == 300
    assert not {m.prompt.casefold() for m in prompts} & tests
    plain = training_prompts(names, 200, 0, [])
    assert {m.prompt.casefold() for m in plain} & tests, "the filter has something to do"
    with pytest.raises(UsageError, match="at least 1"):
        training_prompts(names, 0, 0, [])


def test_pictogram_prompts_are_new_and_of_every_task():
    prompts = prompts_of("drawn", 20, 3)
    assert {m.tag for m in prompts} == set(TASKS)
    assert not {m.prompt for m in prompts} & held_out_texts()
    assert len({m.prompt for m in prompts}) == len(prompts)
    assert prompts_of("tiny", 20, 3) == prompts


def test_interrupted_twice_equals_undisturbed(tmp_path, monkeypatch):
    monkeypatch.setattr("imagecot.curation.job.UNIT", 4)  # a prompt
    made, drawn = labeller(), []

    def job(name: str, most: int = 3) -> Job:
        def orm(prompts):
            if len(drawn) >= most:
                raise KeyboardInterrupt
            drawn.append(prompts)
            return made.orm(prompts)

        out = tmp_path / name
        return Job(out, {"seed": 1}, PROMPTS, lambda data: orm, "drawing", "ORM ranking data", "Drawn for a test.", 4)

    counts = fill(lambda: job("whole"), SILENT)
    drawn.clear()
    for most in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            fill(lambda most=most: job("parts", most), SILENT)
    assert [unit.name for unit in Filling(lambda: job("parts")).missing()] == ["00002"]
    assert fill(lambda: job("parts"), SILENT) == counts
    assert drawn == [[prompt] for prompt in PROMPTS]
    assert list(read_rows(tmp_path / "parts")) == list(read_rows(tmp_path / "whole"))
    assert sum(counts.values()) == 12
    assert "12 labelled images" in (tmp_path / "parts/README.md").read_text()
    assert (tmp_path / "parts/samples.png").is_file()
    assert not (tmp_path / "parts/.work").exists()
    with pytest.raises(UsageError, match="holds another curation"):
        RankingData(tmp_path / "parts", {"seed": 2})


def test_units_without_rows_claim_no_folder_and_are_not_made_again(tmp_path, monkeypatch):
    """Nor when the command was stopped between them; their empty shards are there in the end."""
    monkeypatch.setattr("imagecot.curation.job.UNIT", 4)  # a prompt
    made, drawn = labeller(), []

    def job(most: int, last: bool = True) -> Job:
        def orm(prompts):
            if len(drawn) >= most:
                raise KeyboardInterrupt
            drawn.append(prompts)
            return made.orm(prompts) if last and prompts == PROMPTS[2:3] else []

        return Job(tmp_path / "d", {"seed": 1}, PROMPTS, lambda data: orm, "drawing", "Data", "For a test.", 4)

    with pytest.raises(ImagecotError, match="none of the images can be used"):
        fill(lambda: job(3, last=False), SILENT)
    assert not (tmp_path / "d").exists()
    drawn.clear()
    with pytest.raises(KeyboardInterrupt):
        fill(lambda: job(2), SILENT)
    assert [file.name for file in (tmp_path / "d").iterdir()] == [".work"]
    assert len(Filling(lambda: job(2)).missing()) == 1
    other = Job(tmp_path / "d", {"seed": 2}, PROMPTS, lambda data: made.orm, "drawing", "Data", "For a test.", 4)
    assert len(Filling(lambda: other).missing()) == 3, "what another curation found empty says nothing of this one"
    counts = fill(lambda: job(3), SILENT)
    assert drawn == [[prompt] for prompt in PROMPTS]
    assert sum(counts.values()) == 4
    assert [len(pq.read_table(tmp_path / f"d/data/0000{k}.parquet")) for k in range(3)] == [0, 0, 4]
    assert not (tmp_path / "d/.work").exists()


def test_the_hub_reads_it(tmp_path):
    import datasets

    data = RankingData(tmp_path / "d", {})
    data.keep(0, [*labeller().orm(PROMPTS)])
    table = datasets.Dataset.from_parquet(str(data.shard(0)), cache_dir=str(tmp_path / "cache"))
    assert table[0]["image"].size == (16, 16)
    assert table[0]["prompt"] == "a photo of an apple"


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("label", "maybe", "label: input should be 'yes' or 'no', not 'maybe'"),
        ("question", "taste", "question: input should be 'orm', .*, not 'taste'"),
        ("prompt", " ", "the prompt is empty"),
        ("image", {"bytes": None, "path": None}, "image.bytes: input should be a valid bytes"),
        ("image", {"bytes": b"\x89PNG", "path": None}, "the image is no readable picture"),
        ("id", None, "is there twice"),
    ],
)
def test_bad_rows_are_named(tmp_path, column, value, told):
    import pyarrow
    import pyarrow.parquet

    data = RankingData(tmp_path / "d", {})
    data.keep(0, [*labeller().orm(PROMPTS[:1])])
    table = pyarrow.parquet.read_table(data.shard(0))
    rows = table.to_pylist()
    rows[2][column] = rows[0]["id"] if column == "id" else value
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), data.shard(0))
    with pytest.raises(ImagecotError, match=told) as caught:
        list(read_rows(tmp_path / "d"))
    assert "row 2 of" in str(caught.value)


def test_no_data_is_said(tmp_path):
    with pytest.raises(UsageError, match="holds no curated data"):
        list(read_rows(tmp_path))
    (tmp_path / "d/data").mkdir(parents=True)
    RankingData(tmp_path / "e", {})
    assert not (tmp_path / "e").exists()
    (tmp_path / "d/data/00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(ImagecotError, match="is damaged"):
        list(read_rows(tmp_path / "d"))


def test_the_command_line_refuses_test_prompts(tmp_path, monkeypatch, capsys):
    import sys

    from imagecot import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text(single_object_metadata("apple").text + "\n")
    monkeypatch.setattr(sys, "argv", ["imagecot", "curate", "orm", "--prompts", "p.jsonl", "--out", "d"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "is also a test prompt" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_llava_conversations_there_and_back(tmp_path):
    """Prompts, questions, answers and pictures survive the paper's released form."""
    from imagecot.curation.llava import export_llava, import_llava

    made = labeller()
    data = RankingData(tmp_path / "d", {})
    data.keep(0, [*made.parm(PROMPTS), *made.prm(PROMPTS)])
    count = export_llava(tmp_path / "d", tmp_path / "out")
    rows = {row.id: row for row in read_rows(tmp_path / "d")}
    assert count == len(rows)
    records = json.loads((tmp_path / "out/data.json").read_text())
    talks = {len(record["conversations"]) for record in records}
    assert talks == {2, 4}
    back = list(import_llava(tmp_path / "out/data.json", tmp_path / "out"))
    potential = [row for row in back if row.question == "potential"]
    assert len(potential) == sum(row.question == "potential" for row in rows.values())
    for row in back:
        original = rows[row.id.removesuffix("-potential")]
        assert row.prompt == original.prompt
        assert row.image == original.image
        if row.question == original.question:
            assert row.label == original.label
        else:
            assert (row.question, row.label, original.question) == ("clarity", "yes", "potential")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": "none.png"}, "none.png is missing"),
        (
            {"conversations": [{"from": "human", "value": "Nice?"}, {"from": "gpt", "value": "yes"}]},
            "none of the paper's",
        ),
        ({"conversations": []}, "one or two questions"),
        ({"conversations": 3}, "no conversation"),
    ],
)
def test_strange_conversations_are_named(tmp_path, change, told):
    from imagecot.curation.llava import export_llava, import_llava

    data = RankingData(tmp_path / "d", {})
    data.keep(0, [*labeller().orm(PROMPTS[:1])])
    export_llava(tmp_path / "d", tmp_path / "out")
    file = tmp_path / "out/data.json"
    records = json.loads(file.read_text())
    records[1] |= change
    file.write_text(json.dumps(records))
    with pytest.raises(ImagecotError, match=told) as caught:
        list(import_llava(file, tmp_path / "out"))
    assert "record 1 of" in str(caught.value)


def test_the_released_wording_is_read():
    from imagecot.curation.llava import _recognise
    from imagecot.verifiers.chat import RELEASED_CLARITY

    question, prompt = _recognise(RELEASED_CLARITY.template.replace("{prompt}", "a photo of a cat"))
    assert question.name == "clarity"
    assert prompt.strip(".'") == "a photo of a cat"


def test_a_damaged_identity_is_refused_in_one_sentence(tmp_path):
    out = tmp_path / "data"
    RankingData(out, {"kind": "orm"}).claim()
    (out / "curation.json").write_text('{"kind": ')
    with pytest.raises(UsageError, match=r"curation\.json is damaged: .*; delete"):
        RankingData(out, {"kind": "orm"})


def test_the_command_draws_rejected_images_again(tmp_path, imagecot):
    metadata = prompts_of("drawn", 1, 3)[0]
    codes, others = list(range(64)), [5] * 64
    group = CorrectionRow(
        "a/b", metadata.prompt, metadata.tag, metadata.text, "there is no cup.", 1, 2, codes, others, 0.1
    )
    write_corrections(tmp_path / "groups", [group], {})
    asked = ("curate", "redraws", "--data", "groups", "--paths", "3", "--keep", "3", "--out", "again")
    code, out, _ = imagecot(*asked)
    assert code == 0
    assert out.endswith(": again\n")
    rows = list(read_rows(tmp_path / "again"))
    assert len(rows) == 3
    assert all(row.before_codes == list(range(64)) and len(row.codes) == 64 for row in rows)
    assert {row.told for row in rows} <= {"", "there is no cup."}
    assert imagecot(*asked)[0] == 0  # nothing is left to do
    assert imagecot(*asked[:-1], "x", "--groups", "0")[0] == 2
    assert imagecot(*asked[:3], "nowhere", "--out", "x")[0] == 2
    test_prompt = sorted(held_out_texts())[0]
    write_corrections(tmp_path / "tests", [replace(group, prompt=test_prompt)], {})
    code, _, told = imagecot(*asked[:3], "tests", "--out", "y")
    assert code == 2
    assert "is also a test prompt" in told
    assert not (tmp_path / "y").exists()
