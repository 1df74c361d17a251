"""Data and results go to the hub and come back; scores stand on the card of the model that they are of."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from hub_standin import Hub
from imagecot import __version__
from imagecot.curation.dataset import RankingData, ranking_row, read_rows
from imagecot.curation.shards import content
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.state import IDENTITY, RESULTS
from imagecot.evaluation.summary import Found, Record
from imagecot.geneval.prompts import single_object_metadata
from imagecot.geneval.summary import summarize
from imagecot.hub import CHECKPOINTS
from imagecot.models import weights_of
from imagecot.publishing import pull_from_hub, push_to_hub
from test_hub_push import hub
from test_readme import follow, lines

__all__ = ["hub"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
ROOT = Path(__file__).parent.parent


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    draw = torch.Generator().manual_seed(0)
    rows = [
        ranking_row(
            single_object_metadata(name),
            "orm",
            torch.rand(3, 8, 8, generator=draw),
            step=4,
            steps=4,
            seed=number,
            label=bool(number % 2),
            codes=torch.arange(4) + number,
        )
        for number, name in enumerate(("apple", "cup", "chair"))
    ]
    data = RankingData(tmp_path / "data", {"kind": "test", "prompts": str(tmp_path / "prompts.jsonl")})
    data.keep(0, rows)
    data.finish("rows", f"They were made from {Path.home()}/secret/prompts.jsonl.")
    return tmp_path / "data"


def evaluation(folder: Path, weights: dict[str, str]) -> Found:
    """The folder of a finished evaluation, as `imagecot evaluate` leaves it."""
    images = folder / "images/00000/samples"
    images.mkdir(parents=True)
    (images / "0000.png").write_bytes(b"\x89PNG")
    run = {"generator": "tiny", "search": "best-of-n", "verifier": "tiny-orm", "n": 4, "weights": weights}
    (folder / IDENTITY).write_text(json.dumps(run) + "\n")
    rows = [
        {"tag": tag, "metadata": json.dumps({"tag": tag, "prompt": f"{tag} {number}"}), "correct": number % 3 > 0}
        for tag in ("counting", "colors")
        for number in range(6)
    ]
    (folder / RESULTS).write_text("".join(json.dumps({**row, "filename": f"{folder}/x.png"}) + "\n" for row in rows))
    found = Found(
        score=summarize(rows),
        problems=[],
        cost={},
        record=Record(detector={"detector": "a judge"}, second=None, run=run, versions={"imagecot": __version__}),
    )
    found.write(folder)
    return found


def test_curated_data_is_a_data_set(hub: Hub, curated: Path, tmp_path: Path) -> None:
    found = push_to_hub(curated, "me/rows")
    assert found.kind == "curated data" and found.url == f"{hub.url}/datasets/me/rows"
    there = hub.files("me/rows", "dataset")
    assert {*there} == {"README.md", "curation.json", "samples.png", "data/00000.parquet"}
    assert not any(str(Path.home()).encode() in data or b"/tmp/" in data for data in there.values())
    copied = pull_from_hub("me/rows", tmp_path / "copied")
    assert content(copied) == content(curated) == found.digests["content"]
    assert [*read_rows(copied)] == [*read_rows(curated)]
    with pytest.raises(UsageError, match=r"data \(curated data\) has no README\.md, so it is not finished"):
        (curated / "README.md").unlink()
        push_to_hub(curated, "me/rows")


@pytest.mark.slow
def test_datasets_reads_it(hub: Hub, curated: Path, tmp_path: Path) -> None:
    push_to_hub(curated, "me/rows")
    code = (
        "import json, datasets\n"
        "rows = datasets.load_dataset('me/rows', split='train')\n"
        "sizes = [one.size for one in rows['image']]\n"
        "print(json.dumps([[*rows['id']], [*rows['codes']], sizes, str(rows.features['image'])]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    ids, codes, sizes, feature = json.loads(done.stdout.splitlines()[-1])
    rows = [*read_rows(curated)]
    assert ids == [row.id for row in rows] and codes == [row.codes for row in rows]
    assert sizes == [[8, 8]] * 3 and feature.startswith("Image(")


def test_an_evaluation_goes_there_and_back(hub: Hub, tmp_path: Path) -> None:
    evaluation(tmp_path / "scored", {})
    (tmp_path / "scored/state.pt").write_bytes(b"pickle")
    push_to_hub(tmp_path / "scored", "me/scores")
    there = hub.files("me/scores", "dataset")
    assert {*there} == {"README.md", IDENTITY, RESULTS, "summary.json", "images/00000/samples/0000.png"}
    assert str(tmp_path).encode() not in b"".join(there.values())
    card = there["README.md"].decode()
    assert "| counting | 6 | 0.667" in card and yaml.safe_load(card.split("---\n")[1])["viewer"] is False
    copied = pull_from_hub("me/scores", tmp_path / "copied")
    assert (copied / "summary.json").read_bytes() == (tmp_path / "scored/summary.json").read_bytes()
    (tmp_path / "scored/link.json").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match=r"link\.json is a link, and what it leads to may not be meant"):
        push_to_hub(tmp_path / "scored", "me/scores")
    (tmp_path / "scored/link.json").unlink()
    (tmp_path / "scored/summary.json").unlink()
    with pytest.raises(UsageError, match=r"scored \(evaluation\) has no summary\.json, so it is not finished"):
        push_to_hub(tmp_path / "scored", "me/scores")


def test_scores_on_a_card_are_of_these_weights(hub: Hub, tmp_path: Path) -> None:
    own = weights_of("verifier", "tiny-prm")
    found = evaluation(tmp_path / "scored", {"generator": "0" * 64, **own})
    evaluation(tmp_path / "others", {"generator": "0" * 64, "verifier": "1" * 64, "verifier_base": own["verifier"]})
    push_to_hub("tiny-zero-shot", "me/base")
    with pytest.raises(UsageError, match=rf"others says nothing of these weights \(SHA-256 {own['verifier'][:12]}"):
        push_to_hub("tiny-prm", "me/prm", base="me/base", results=tmp_path / "others")
    push_to_hub("tiny-prm", "me/prm", base="me/base", results=tmp_path / "scored", benchmark="me/prompts")
    there = hub.files("me/prm")
    card = there["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    metrics = head["model-index"][0]["results"][0]["metrics"]
    values = {metric["name"]: metric["value"] for metric in metrics}
    method = "best-of-n, 4 paths judged by tiny-orm"
    assert values[f"share of right images, overall ({method})"] == round(found.score.overall, 4)
    overall = f"{found.score.overall:.3f} (±{found.score.overall_se:.3f})"
    assert f"| {method} | {overall} | 0.667 | 0.667 |" in card
    (written,) = (name for name in there if name.startswith(".eval_results/"))
    entries = yaml.safe_load(there[written])
    assert entries[0] == {
        "dataset": {"id": "me/prompts", "task_id": "overall"}, "value": round(found.score.overall, 4), "notes": method,
    }  # fmt: skip
    assert [entry["dataset"]["task_id"] for entry in entries] == ["overall", "counting", "colors"]
    push_to_hub("tiny-prm", "me/prm", base="me/base")  # without any: none stay
    card = hub.files("me/prm")["README.md"].decode()
    assert written not in hub.files("me/prm") and "model-index" not in card and "## Scores" not in card
    assert card.count("<!-- imagecot -->") == 1


def test_the_rows_of_a_study_that_are_about_a_model(tmp_path: Path) -> None:
    from imagecot.publishing.scores import results_of, table

    study = ROOT / "docs/results/tiny"
    said = json.loads((study / "summary.json").read_text())
    digests = said["weights"]["verifiers"]["tiny-prm"]
    results = results_of(study, digests)
    wanted = [row["overall"] for row in said["rows"].values() if row.get("verifier") == "tiny-prm"]
    assert [score.overall for score in results.scores] == wanted != []
    assert said["command"] in table(results)
    with pytest.raises(ImagecotError, match="says nothing of these weights"):
        results_of(study, {"verifier": "0" * 64})


def test_shipped_cards_say_what_the_hub_asks_for() -> None:
    from huggingface_hub import ModelCard

    for file in sorted(CHECKPOINTS.glob("*/README.md")):
        card = ModelCard.load(file)
        head = card.data.to_dict()
        adapter = (file.parent / "adapter_config.json").is_file()
        assert head["license"] == "apache-2.0" and head["tags"], file
        assert ("base_model" in head) == (head["library_name"] == "peft") == adapter, file
        assert "## Limits" in card.text and "## Training" in card.text, file


def test_the_citation_is_of_this_version() -> None:
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= said.keys()
    assert said["version"] == __version__ == said["references"][0]["version"]
    paper = said["preferred-citation"]
    assert len(paper["authors"]) == 7 and paper["url"].endswith("2501.13926")


def test_the_page_works_as_written(hub: Hub, imagecot: object) -> None:
    torch.set_num_threads(1)
    page = (ROOT / "docs/share.md").read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page, re.S | re.M):
        if language == "python":
            exec(compile(block, "share.md", "exec"), {})
        elif language == "bash":
            for command in lines(block):
                follow(command, imagecot)  # type: ignore[arg-type]
    assert (Path("runs/copied/summary.json")).read_bytes() == Path("runs/scored/summary.json").read_bytes()
    assert hub.repositories["model", "me/tiny-dpo"].private
    assert any(name.startswith(".eval_results/") for name in hub.files("me/tiny"))
