"""The extension guides work as written: their files and commands are taken from them, and give real results."""

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagecot import load_generator
from imagecot.contracts import (
    Adjustable,
    Advised,
    Asking,
    Batched,
    Calibrated,
    Canvas,
    Corrector,
    Detector,
    Encoder,
    Generator,
    Paths,
    Predictor,
    Reader,
    Reflector,
    Remasker,
    Scorer,
    Selective,
    Strategy,
    Verifier,
    World,
    path_seeds,
)
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import prompt_seed
from imagecot.curation.dataset import read_rows
from imagecot.images import from_png

GUIDES = Path(__file__).parent.parent / "docs" / "extend"
MODULES = {"verifier": "colour_judge", "generator": "bands", "search": "halving", "world": "flags"}
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "black": (0, 0, 0), "white": (1, 1, 1)}
Run = Callable[..., tuple[int, str, str]]


def text_of(guide: str) -> str:
    return (GUIDES / f"{guide}.md").read_text(encoding="utf-8")


def entries_of(guide: str) -> list[str]:
    """The entries of a guide's lists, and the rows of its tables, each a line that begins with what it tells of."""
    text = re.sub(r"\n +", " ", re.sub(r"```.*?```", "", text_of(guide), flags=re.S))
    return [line[2:].replace(" | ", ": ", 1) for line in text.splitlines() if line.startswith(("* ", "| "))]


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(guide), re.S)


def commands(guide: str) -> list[list[str]]:
    lines = [line for block in blocks(guide, "bash") for line in block.replace("\\\n", " ").splitlines()]
    assert all(line.startswith("imagecot ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def write_files(guide: str, folder: Path) -> None:
    """Write the guide's files, named in their first lines, and install its package as `pip install` would."""
    for language in ("python", "yaml", "toml"):
        for block in blocks(guide, language):
            name = re.match(r"# (\w+\.\w+)\n", block)
            assert name is not None, block
            (folder / name[1]).write_text(block, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    installed = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    groups = project["entry-points"].items()
    text = "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups)
    (installed / "entry_points.txt").write_text(text)


@pytest.fixture(params=MODULES)
def guide(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A guide whose files lie in the current folder."""
    torch.set_num_threads(1)
    sys.modules.pop(MODULES[request.param], None)
    write_files(request.param, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield request.param
    sys.modules.pop(MODULES[request.param], None)


def test_everything_in_a_guide_runs_and_gives_what_it_should(guide: str, imagecot: Run) -> None:
    said = {}
    for command in commands(guide):
        code, out, err = imagecot(*command)
        assert code == 0, (command, err)
        said[" ".join(command)] = out
    for command, out in said.items():
        if command.startswith("check"):
            assert "broken" not in out
            assert "kept" in out
    RESULTS[guide]()


def test_guides_are_short_and_link_to_what_is_there() -> None:
    assert {page.stem for page in GUIDES.glob("*.md")} == set(MODULES)
    for guide in MODULES:
        (example,) = blocks(guide, "python")
        assert 20 <= len([line for line in example.splitlines() if line.strip()]) <= 60
        for target in re.findall(r"\]\(([^)]+)\)", text_of(guide)):
            assert (GUIDES / target).exists(), target


@pytest.mark.parametrize(
    ("guide", "protocols"),
    [
        ("verifier", [Verifier]),
        ("generator", [Generator]),
        ("search", [Strategy]),
        ("world", [World, Detector]),
    ],
)
def test_guides_name_every_member_and_every_capability(guide: str, protocols: list[type]) -> None:
    entries = entries_of(guide)
    for protocol in protocols:
        for name in {**vars(protocol), **protocol.__annotations__}:
            assert name.startswith("_") or any(f"`{name}" in what.split(": ")[0] for what in entries), name
    capabilities = {
        "verifier": (Reflector, Advised, Selective, Reader),
        "generator": (Reader, Corrector, Predictor, Remasker, Encoder, Adjustable, Scorer),
        "search": (Batched, Calibrated, Asking),
        "world": (),
    }
    for capability in capabilities[guide]:
        (line,) = [entry for entry in entries if entry.startswith(f"`{capability.__name__}`")]
        for name in vars(capability):
            assert name.startswith("_") or f"`{name}" in line, (capability, name)


def share(picture: np.ndarray, *colours: str) -> float:
    """The share of the pixels (H, W, 3) in 0 to 255 that are nearest to one of some colours."""
    palette = np.array([*COLOURS.values()]) * 255.0
    distance = ((picture[:, :, None].astype(float) - palette) ** 2).sum(-1)
    return float(np.isin(distance.argmin(-1), [[*COLOURS].index(colour) for colour in colours]).mean())


def trace(folder: str) -> list[dict]:
    return lines(f"{folder}/trace.jsonl")


def lines(file: str) -> list[dict]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def summary(folder: str) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


def pictures(row: dict) -> list[np.ndarray]:
    """The pictures (H, W, 3) in 0 to 255 of the paths that a study recorded of the shipped generator."""
    images = load_generator("tiny").decode(torch.tensor(row["codes"]))
    return [*(images.permute(0, 2, 3, 1) * 255).round().numpy()]


def verifier_results() -> None:
    """The chosen image has the score that its pixels give, and no other had a higher one."""
    run, *paths, choice = trace("runs/red")
    scores = [path["score"] for path in paths]
    assert choice["chosen"] == scores.index(max(scores))
    picture = np.asarray(Image.open("runs/red/image.png").convert("RGB"))
    assert max(scores) == pytest.approx(share(picture, "red"), abs=0.01)
    assert len({*scores}) > 1
    assert choice["cost"]["judge_calls"] == 4
    assert run["model_settings"] == {"verifier": {"strictness": 1.0}}
    assert len(lines("runs/scores/results.jsonl")) == 6
    told = []
    for row in lines("runs/study/candidates/tiny.jsonl"):
        told.append([word for word in row["metadata"]["prompt"].split() if word in COLOURS])
        for path, one in zip(row["searches"]["reddest"]["paths"], pictures(row), strict=True):
            assert path["score"] == pytest.approx(share(one, *told[-1]), abs=0.01)
    assert any(told)
    assert {*summary("runs/study")["rows"]} >= {"one", "reddest"}


def generator_results() -> None:
    """What every command draws is what the class draws by itself."""
    import bands  # type: ignore[import-not-found]

    generator = bands.Bands()
    assert isinstance(generator, Generator)
    assert generator.canvas == Canvas((4, 8), 5, (64, 64))

    def drawn(prompt: str, seeds: torch.Tensor) -> Paths:
        return finish(generator, generator.start([prompt], seeds))

    prompt = "a photo of a red apple"
    _, *paths, choice = trace("runs/red")
    seeds = path_seeds(0, 4)
    assert [path["seed"] for path in paths] == seeds.tolist()
    picture = np.asarray(Image.open("runs/red/image.png").convert("RGB")) / 255
    expected = generator.decode(drawn(prompt, seeds).codes)[choice["chosen"]].permute(1, 2, 0).numpy()
    assert np.abs(picture - expected).max() <= 1 / 255
    rows = [*read_rows("runs/prm")]
    assert {row.step for row in rows} == {1, 2, 3, 4}
    for row in rows:
        if row.step == 4:
            ours = generator.decode(drawn(row.prompt, path_seeds(prompt_seed(0, row.prompt), 1)).codes)
            assert torch.allclose(from_png(row.image), ours[0], atol=1 / 255)
    assert {*summary("runs/study")["rows"]} >= {"one", "stepwise", "best"}


def search_results() -> None:
    """Half of the paths stopped after step 6, those that the verifier believed in least; the best of the others won."""
    run, *paths, choice = trace("runs/red")
    assert run["settings"]["after"] == 6
    asked = [path["verdicts"][0]["p_yes"] for path in paths]
    stopped = sorted(range(4), key=lambda k: asked[k])[:2]
    assert [k for k, path in enumerate(paths) if path["truncated_at"] == 6] == sorted(stopped)
    assert choice["chosen"] == max(set(range(4)) - {*stopped}, key=lambda k: paths[k]["score"])
    assert choice["cost"]["generator_rows"] == 2 * (4 * 6 + 2 * 12)
    assert {*summary("runs/study")["rows"]} >= {"one", "halving"}


def world_results() -> None:
    """Every image is right whose pixels are mostly of the colour that was asked for."""
    found = lines("runs/scores/results.jsonl")
    assert [row["prompt"] for row in found] == [f"a photo of a {colour} flag" for colour in COLOURS]
    assert summary("runs/scores")["record"]["detector"]["detector"] == "flag-eye"
    rows = [*read_rows("runs/prm")]
    assert {row.prompt for row in rows} == {"a red flag in the wind"}
    for row in rows:
        if row.step == 18:
            picture = (from_png(row.image).permute(1, 2, 0) * 255).numpy()
            colour = row.prompt.split()[1]
            mostly = max(COLOURS, key=lambda one: share(picture, one))
            assert (row.label == "yes") == (mostly == colour)
    units = lines("runs/study/candidates/tiny.jsonl")
    assert [unit["metadata"]["prompt"] for unit in units] == [row["prompt"] for row in found[:2]]
    for unit, colour in zip(units, COLOURS, strict=False):
        mostly = [max(COLOURS, key=lambda one: share(picture, one)) for picture in pictures(unit)]
        assert unit["correct"] == [[one == colour for one in mostly]]


RESULTS = {
    "verifier": verifier_results,
    "generator": generator_results,
    "search": search_results,
    "world": world_results,
}
