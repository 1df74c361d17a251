"""The pictogram detector: targets by hand, peaks to boxes, and the shipped weights on held-out renderings."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval.detection import judge
from imagecot.geneval.prompts import COLORS, TASKS
from imagecot.images import from_picture, open_picture
from imagecot.worlds.drawn.annotated import AnnotatedPicture, Seen, read_annotations
from imagecot.worlds.drawn.captions import random_requirement
from imagecot.worlds.drawn.dataset import Example, example
from imagecot.worlds.drawn.detector import GRID, STRIDE, PictogramDetector, _told_once, load_detector
from imagecot.worlds.drawn.scenes import KINDS, Item, Scene, compose, draw
from imagecot.worlds.drawn.training.detector import DetectorRecipe, detector_loss, sharpen, targets
from imagecot.worlds.drawn.training.detector_pictures import (
    choose_patches,
    look_at,
    roughen,
    scramble,
    scramble_codes,
    whole_enough,
)


def to_images(scenes: list[Scene]) -> torch.Tensor:
    array = np.stack([np.asarray(draw(scene)) for scene in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div(255)


def test_targets_by_hand():
    item = Item("clock", "blue", 21.0, 34.0, 20.0, 2)
    scene = Scene((item,), "sky")
    heat, weight, box, color, centre = targets([whole_enough(Example({}, scene))], centre_weight=4.0)
    x0, y0, x1, y1 = scene.boxes[0]
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    x, y, kind = int(cx // STRIDE), int(cy // STRIDE), KINDS.index("clock")
    assert heat.sum() == 1 and heat[0, kind, y, x] == 1
    assert centre.nonzero().tolist() == [[0, y, x]]
    assert color[0, y, x] == COLORS.index("blue") and (color >= 0).sum() == 1
    assert box[0, :, y, x].tolist() == pytest.approx([cx / 4 - x, cy / 4 - y, (x1 - x0) / 4, (y1 - y0) / 4])
    assert weight[0, kind, y, x] == 4 and weight[0, kind, y, x + 1] == 0 and weight[0, kind, y, x + 2] == 1


def test_sharper_logits_leave_boxes_and_colours():
    model, images = PictogramDetector(8).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        kinds, boxes, colors = model(images)
        sharpen(model, 2.0, -0.5)
        sharper, same_boxes, same_colors = model(images)
    assert torch.allclose(sharper, 2 * kinds - 0.5, atol=1e-5)
    assert torch.equal(boxes, same_boxes) and torch.equal(colors, same_colors)


def test_peaks_become_boxes(monkeypatch):
    model = PictogramDetector(8).eval()
    kinds = torch.full((1, len(KINDS), GRID, GRID), -9.0)
    boxes, colors = torch.zeros(1, 4, GRID, GRID), torch.zeros(1, len(COLORS), GRID, GRID)
    kinds[0, 2, 5, 3], kinds[0, 2, 5, 4] = 2.0, 1.0  # one object: the neighbour is no peak
    boxes[0, :, 5, 3] = torch.tensor([0.5, 0.25, 6.0, 4.0])
    colors[0, 7, 5, 3] = 3.0
    monkeypatch.setattr(model, "forward", lambda images: (kinds, boxes, colors))
    found = model.detect(torch.zeros(1, 3, 64, 64))[0]
    assert list(found.boxes) == [KINDS[2]] and found.colors == {KINDS[2]: [COLORS[7]]}
    centre_x, centre_y = 3.5 * 4, 5.25 * 4
    expected = [centre_x - 12, centre_y - 8, centre_x + 12, centre_y + 8, torch.tensor(2.0).sigmoid().item()]
    assert found.boxes[KINDS[2]][0] == pytest.approx(expected)


def test_every_weight_has_a_gradient():
    model = PictogramDetector(8)
    examples = [example(1, k) for k in range(4)]
    losses = detector_loss(model, to_images([e.scene for e in examples]), [whole_enough(e) for e in examples])
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_roughening_is_seeded_and_stays_in_range():
    images = to_images([example(1, k).scene for k in range(8)])
    first, second = (roughen(images, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and first.min() >= 0 and first.max() <= 1
    changed = (first != images).flatten(1).any(1)
    assert changed.any() and not changed.all()


@pytest.mark.parametrize("task", TASKS)
def test_shipped_detector_judges_fresh_renderings(task):
    rng = random.Random(f"fresh {task}")
    metadata = [random_requirement(rng, task) for _ in range(40)]
    images = to_images([compose(m, rng) for m in metadata])
    verdicts = load_detector().judge(images, metadata)
    assert sum(v.correct for v in verdicts) >= 39


def test_shipped_detector_rejects_scenes_of_other_prompts():
    rng = random.Random(11)
    wrong = 0
    for _ in range(60):
        metadata, other = random_requirement(rng, "color_attr"), random_requirement(rng, "color_attr")
        wrong += load_detector().judge(to_images([compose(other, rng)]), [metadata])[0].correct
    assert wrong == 0


def labelled(name: str, detector: str = "pictograms") -> tuple[list[dict[str, Any]], list[bool]]:
    """Labels of pictures that a shipped generator drew of held-out prompts, and what a shipped detector says.

    The file holds all labels, and every other picture in steps of 5 of 255, which changes no verdict.
    """
    table = pq.read_table(Path(__file__).parent / "data" / "labelled.parquet").to_pylist()
    kept = [row for row in table if row["set"] == name and row["picture"] is not None]
    rows = [json.loads(row["labels"]) for row in kept]
    images = [from_picture(open_picture(row["picture"])) for row in kept]
    return rows, [v.correct for v in load_detector(detector).judge(images, [row["metadata"] for row in rows])]


def test_it_agrees_with_who_looks_at_generated_pictures():
    """75 pictures labelled by two annotators before they knew the detector's verdicts; neither doubts 49 of them."""
    rows, said = labelled("labelled-150")
    clear = [(a, row["labels"]) for a, row in zip(said, rows, strict=True) if not any(row["doubtful"])]
    assert len(rows) == 75 and len(clear) == 49
    assert 15 < sum(first for _, (first, _) in clear) < 35
    for k in range(2):
        assert sum(a == labels[k] for a, labels in clear) / len(clear) >= 0.95
        sure = [(a, row["labels"][k]) for a, row in zip(said, rows, strict=True) if not row["doubtful"][k]]
        assert len(sure) in (54, 56) and sum(a == label for a, label in sure) / len(sure) >= 0.92


def test_it_agrees_with_four_annotators():
    """50 other pictures, each labelled four times: 44 alike. One annotator agrees with another on .91 to .97."""
    rows, said = labelled("labelled")
    each = [sum(a == row["votes"][k] for a, row in zip(said, rows, strict=True)) for k in range(4)]
    alike = [(a, row["label"]) for a, row in zip(said, rows, strict=True) if len(set(row["votes"])) == 1]
    assert len(rows) == 50 and len(alike) == 44
    assert sum(each) / 200 >= 0.87
    assert sum(a == label for a, label in alike) / len(alike) >= 0.9


def test_both_judges_agree_with_who_looks_at_what_the_raster_generator_draws():
    """51 pictures of tiny-janus, labelled by two annotators who agree on all but one; they doubt 8 of them."""
    rows, said = labelled("tiny-janus")
    assert len(rows) == 51
    assert sum(a != b for a, b in (row["labels"] for row in rows)) <= 1
    for k in range(2):
        assert sum(a == row["labels"][k] for a, row in zip(said, rows, strict=True)) / 51 >= 0.94
    clear = [(a, row["labels"][0]) for a, row in zip(said, rows, strict=True) if not any(row["doubtful"])]
    assert len(clear) >= 40 and all(a == label for a, label in clear)


def test_where_the_judges_differ_nobody_can_tell():
    """Where they agree they agree with the annotators; where they differ one of them is right, as by chance."""
    told: dict[bool, list[float]] = {True: [], False: []}
    for name in ("labelled", "labelled-150", "tiny-janus"):
        rows, first = labelled(name)
        _, second = labelled(name, "pictograms-2")
        for a, b, row in zip(first, second, rows, strict=True):
            labels = row.get("votes") or row["labels"]
            told[a == b].append(sum(a == label for label in labels) / len(labels))
    share = len(told[False]) / (len(told[False]) + len(told[True]))
    means = {same: sum(found) / len(found) for same, found in told.items()}
    assert 0.05 < share < 0.2
    assert means[True] > 0.9 and means[False] < 0.7


def test_an_object_that_is_seen_twice_is_one():
    """Of boxes of one kind that overlap by half the surer stays; others, and other kinds, stay as they are."""
    cup, again, beside = [10.0, 10, 30, 30, 0.8], [12.0, 10, 32, 30, 0.9], [40.0, 10, 60, 30, 0.7]
    half = [10.0, 18, 30, 38, 0.6]  # less than half of both together is shared
    found = _told_once(
        {"cup": [cup, again, beside, half], "boat": [cup]}, {"cup": ["red", "blue", "green", "pink"], "boat": ["red"]}
    )
    assert found.boxes == {"cup": [again, beside, half], "boat": [cup]}
    assert found.colors == {"cup": ["blue", "green", "pink"], "boat": ["red"]}


def test_scrambled_objects_are_not_there():
    """Where most of an object was replaced no centre is asked for; where little was, it still is."""
    scenes = [example(5, k) for k in range(40)]
    images = to_images([e.scene for e in scenes])
    taken, lost = choose_patches(scenes, torch.Generator().manual_seed(0))
    rough = scramble(images, taken, torch.Generator().manual_seed(1))
    codes = torch.arange(40 * 64).view(40, 64)
    mixed = scramble_codes(codes, taken, torch.Generator().manual_seed(1))
    kept = ~taken.flatten(1)
    assert torch.equal(mixed[kept], codes[kept])
    assert (mixed[~kept] != codes[~kept]).float().mean() > 0.95
    assert ((rough != images).any(1).unflatten(1, (8, 8)).unflatten(3, (8, 8)).any(4).any(2) <= taken).all()
    touched = [k for k, shares in enumerate(lost) if shares]
    assert 10 <= len(touched) <= 30
    for k, (e, shares) in enumerate(zip(scenes, lost, strict=True)):
        changed = (rough[k] != images[k]).any(0)
        for index, (x0, y0, x1, y1) in enumerate(e.scene.boxes):
            inside = changed[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))].float().mean()
            assert float(inside) <= shares.get(index, 0.0) + 0.12
    heat, weight, _, color, _ = targets([whole_enough(*scene) for scene in zip(scenes, lost, strict=True)])
    for k, e in enumerate(scenes):
        present = sum(lost[k].get(index, 0.0) <= 0.15 for index in range(len(e.scene.items)))
        assert int(heat[k].sum()) == int((color[k] >= 0).sum()) == present
    doubtful = [k for k in touched if any(0.15 < share <= 0.35 for share in lost[k].values())]
    assert doubtful
    assert all((weight[k] == 0).any() for k in doubtful)


class Palette:
    """Decodes code k to a red square of 8 pixels whose corner is (4 k, 20)."""

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        images = torch.zeros(len(codes), 3, 64, 64)
        for image, (code,) in zip(images, codes.tolist(), strict=True):
            image[0, 20:28, 4 * code : 4 * code + 8] = 1
        return images


def annotated(code: int) -> AnnotatedPicture:
    seen = Seen(kind="cup", color="red", box=(4.0 * code, 20.0, 4.0 * code + 8, 28.0))
    return AnnotatedPicture(prompt="a photo of a cup", codes=[code], objects=[seen])


def test_annotated_pictures_are_placed_anew_with_their_boxes_and_lose_the_colour_with_the_channels():
    pictures = [annotated(code) for code in range(2, 12)] * 4
    images, objects = look_at(Palette(), pictures, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    mirrored, widths = 0, []
    for image, picture, (seen,) in zip(images, pictures, objects, strict=True):
        before = picture.objects[0].box
        x0, y0, x1, y1 = seen.box
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
        channel = int(image.amax((1, 2)).argmax())
        inside = (image[channel] > 0.5).nonzero().float() + 0.5
        assert inside.min(0).values.tolist() == pytest.approx([y0, x0], abs=1.1)
        assert inside.max(0).values.tolist() == pytest.approx([y1, x1], abs=1.1)
        assert seen.color is None or channel == 0
        widths.append((x1 - x0) / (before[2] - before[0]))
        mirrored += abs((x0 + x1) - 128 + (before[0] + before[2])) < abs((x0 + x1) - (before[0] + before[2]))
    assert 0.75 < min(widths) < 0.85 and 1.15 < max(widths) < 1.3
    assert 10 < mirrored < 30
    assert 2 < sum(seen.color is None for (seen,) in objects) < 25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of .* is not valid JSON"),
        ('{"prompt": "a cup", "codes": []}', "line 2 of .*: codes: "),
        (annotated(2).model_dump_json().replace('"cup"', '"cat"'), "line 2 of .* the drawn world has no 'cat'"),
        (annotated(2).model_dump_json().replace('"red"', '"mauve"'), "line 2 of .* there is no colour 'mauve'"),
    ],
)
def test_annotations_that_are_none_are_refused_by_their_line(tmp_path, line, message):
    file = tmp_path / "annotated.jsonl"
    good = annotated(3).model_dump_json()
    file.write_text(good + "\n")
    assert read_annotations(file) == [annotated(3)]
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(UsageError, match=message):
        read_annotations(file)


def test_annotated_pictures_need_the_tokenizer_that_decodes_them(tmp_path):
    optimization = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3}
    with pytest.raises(ValidationError, match="name the tokenizer"):
        DetectorRecipe(output=tmp_path, annotated=tmp_path / "a.jsonl", optimization=optimization)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UsageError, match="is empty"):
        read_annotations(tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match="is a folder"):
        read_annotations(tmp_path)


def test_other_sizes_are_looked_at_in_its_own_and_boxes_come_back_in_theirs():
    detector = load_detector()
    scene = example(5, 3)
    image = from_picture(draw(scene.scene))
    wide = image.repeat_interleave(2, 1).repeat_interleave(3, 2)
    own, larger = detector.detect([image, wide])
    assert own.boxes.keys() == larger.boxes.keys()
    for kind, rows in own.boxes.items():
        for row, other in zip(rows, larger.boxes[kind], strict=True):
            assert other == pytest.approx([3 * row[0], 2 * row[1], 3 * row[2], 2 * row[3], row[4]], abs=1.0)
    assert judge(detector, [wide], [scene.metadata])[0].correct
    with pytest.raises(ImagecotError, match=r"images \(3, H, W\)"):
        detector.detect([torch.zeros(1, 64, 64)])
