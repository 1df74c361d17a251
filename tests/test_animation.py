"""The moving picture of a run: frames, marks, and what cannot be shown."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from imagecot.errors import ImagecotError, UsageError
from imagecot.generation.follow import run
from imagecot.generation.recipe import GenerationRecipe
from imagecot.images import open_picture
from imagecot.strategies import previews
from imagecot.strategies.trace import Trace
from imagecot.view.animation import DARK, LIGHT, Stage, Theme, animate


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "apple"
    run(GenerationRecipe(prompt="a photo of a red apple", generator="tiny", search="parm", n=6, seed=3, output=folder))
    return folder


def stage(folder: Path, theme: Theme = LIGHT) -> Stage:
    return Stage(Trace.load(folder), {k: open_picture(v) for k, v in previews.read(folder).items()}, theme)


def has(frame: Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(frame) == color).all(-1).sum() > 200)


def test_paths_emerge_are_stopped_and_one_is_chosen(drawn: Path) -> None:
    trace, shown = Trace.load(drawn), stage(drawn)
    stopped = [one.truncated_at for one in trace.candidates if one.truncated_at is not None]
    assert stopped and trace.kept > 1
    frames = shown.frames()
    assert len(frames) == 7  # six steps and the choice
    assert all(frame.size == frames[0][0].size for frame, _ in frames)
    assert [has(frame, LIGHT.stopped) for frame, _ in frames] == [
        step > min(stopped) for step in (1, 4, 8, 11, 15, 18)
    ] + [True]
    assert [has(frame, LIGHT.chosen) for frame, _ in frames] == [False] * 6 + [True]
    assert frames[-1][1] > 2 * frames[0][1]  # the choice stays for longer


def test_the_file_moves_and_its_last_frame_is_a_still(drawn: Path, tmp_path: Path) -> None:
    for name in ("light.webp", "dark.webp", "light.gif", "light.png"):
        animate(drawn, tmp_path / name, dark=name.startswith("dark"))
    with Image.open(tmp_path / "light.webp") as light, Image.open(tmp_path / "dark.webp") as dark:
        assert light.n_frames == dark.n_frames == 7 and light.info["loop"] == 0
        assert light.convert("RGB").getpixel((2, 2)) == LIGHT.paper
        corner = dark.convert("RGB").getpixel((2, 2))
        assert max(abs(a - b) for a, b in zip(corner, DARK.paper, strict=True)) < 4
        last = [*ImageSequence.Iterator(light)][-1].convert("RGB")
    with Image.open(tmp_path / "light.gif") as gif:
        assert gif.n_frames == 7
    still = np.asarray(open_picture(tmp_path / "light.png").convert("RGB")).astype(int)
    assert abs(still - np.asarray(last.reduce(2))).mean() < 3
    assert (tmp_path / "light.webp").stat().st_size < 200_000


def test_a_run_of_one_path_without_a_verifier_is_shown(tmp_path: Path) -> None:
    run(GenerationRecipe(prompt="a cup", generator="tiny", search="single", n=1, output=tmp_path / "one"))
    animate(tmp_path / "one", tmp_path / "one.webp")
    with Image.open(tmp_path / "one.webp") as picture:
        assert picture.n_frames > 3


def test_what_cannot_be_shown_is_said_in_a_sentence(drawn: Path, tmp_path: Path, imagecot) -> None:
    with pytest.raises(UsageError, match=r"paths\.mp4 is none of the pictures"):
        animate(drawn, tmp_path / "paths.mp4")
    with pytest.raises(ImagecotError, match="trace"):
        animate(tmp_path, tmp_path / "paths.webp")
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in drawn.iterdir():
        if file.name != "previews.zip":
            (bare / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ImagecotError, match=r"has no previews\.zip"):
        animate(bare, tmp_path / "paths.webp")
    code, _, err = imagecot("view", str(drawn), str(bare), "--animate", "paths.webp")
    assert code == 2 and "of one run" in err
    code, out, err = imagecot("view", str(drawn), "--animate", "paths.webp", "--dark")
    assert (code, err) == (0, "") and "paths.webp" in out
    assert Path("paths.webp").is_file()
