"""The drawn world: scenes are right for their requirement, deterministic, and never worded like a test prompt."""

import random

import numpy as np
import pytest

from imagecot.geneval.prompts import COLORS, OBJECT_NAMES, TASKS, colors_metadata, counting_metadata, plural
from imagecot.geneval.rules import judge_detections, relations
from imagecot.worlds.drawn.captions import caption, held_out_prompts, held_out_texts, phrase, random_requirement
from imagecot.worlds.drawn.dataset import Pool, example
from imagecot.worlds.drawn.scenes import KINDS, PALETTE, SIZE, Item, Scene, compose, draw
from imagecot.worlds.drawn.text import build_tokenizer, known_words


def truth(scene: Scene) -> tuple[dict, dict]:
    """The detections that a perfect detector would report."""
    boxes, colors = {}, {}
    for item, box in zip(scene.items, scene.boxes, strict=True):
        boxes.setdefault(item.kind, []).append([*box, 0.99])
        colors.setdefault(item.kind, []).append(item.color)
    return boxes, colors


def test_vocabulary_is_genevals():
    assert len(KINDS) >= 10
    assert set(KINDS) <= set(OBJECT_NAMES)
    assert tuple(PALETTE) == COLORS


@pytest.mark.parametrize("task", TASKS)
def test_scenes_fulfil_their_requirement(task):
    rng = random.Random(task)
    for _ in range(60):
        metadata = random_requirement(rng, task)
        scene = compose(metadata, rng)
        verdict = judge_detections(metadata, *truth(scene))
        assert verdict.correct, verdict.reason
        assert len(scene.items) == sum(need.count for need in metadata.include)


def test_objects_stay_inside_and_apart():
    rng = random.Random(0)
    for _ in range(100):
        boxes = np.array(compose(random_requirement(rng, "counting"), rng).boxes)
        assert boxes.min() >= 0 and boxes.max() <= SIZE
        for i in range(len(boxes)):
            for j in range(i):
                a, b = boxes[i], boxes[j]
                overlap_x = min(a[2], b[2]) - max(a[0], b[0])
                overlap_y = min(a[3], b[3]) - max(a[1], b[1])
                assert overlap_x <= 0 or overlap_y <= 0


def test_position_scenes_have_exactly_the_asked_relation():
    rng = random.Random(1)
    for _ in range(40):
        metadata = random_requirement(rng, "position")
        scene = compose(metadata, rng)
        by_kind = {item.kind: np.float32(box) for item, box in zip(scene.items, scene.boxes, strict=True)}
        target, subject = metadata.include
        found = relations(by_kind[subject.name], by_kind[target.name])
        assert found == [subject.relation]


def test_boxes_are_where_the_ink_is():
    for kind in KINDS:
        scene = Scene((Item(kind, "purple", 30.0, 34.0, 36.0, 2),), "stone")
        empty = np.asarray(draw(Scene((), "stone"))).astype(int)
        changed = np.abs(np.asarray(draw(scene)).astype(int) - empty).sum(2) > 30
        ys, xs = np.nonzero(changed)
        x0, y0, x1, y1 = scene.boxes[0]
        drawn = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        np.testing.assert_allclose(drawn, (x0, y0, x1, y1), atol=1.6)


def test_main_colour_dominates_the_object():
    for color, rgb in PALETTE.items():
        item = Item("apple", color, 32.0, 32.0, 40.0, 1)
        pixel = np.asarray(draw(Scene((item,), "sand")))[36, 34]
        assert np.abs(pixel.astype(int) - rgb).max() <= 6


def test_examples_depend_on_seed_and_index_alone():
    assert example(5, 17) == example(5, 17)
    assert example(5, 17) != example(5, 18)
    assert example(5, 17) != example(6, 17)


def test_pool_is_cached_and_equals_its_examples(tmp_path):
    pool = Pool(tmp_path, 3, seed=77, workers=1)
    again = Pool(tmp_path, 3, seed=77, workers=1)
    for index in range(3):
        assert pool[index] == example(77, index)
        np.testing.assert_array_equal(again.images([index])[0], np.asarray(draw(example(77, index).scene)))
    assert not list(tmp_path.rglob("*.partial"))


def test_training_captions_are_never_test_prompts():
    rng = random.Random(3)
    texts = held_out_texts()
    for metadata in held_out_prompts():
        for _ in range(10):
            assert caption(metadata, rng, plain=1.0) not in texts


def test_held_out_prompts_cover_the_six_tasks():
    prompts = held_out_prompts()
    counts = {task: sum(m.tag == task for m in prompts) for task in TASKS}
    assert min(counts.values()) >= 30
    assert len({m.prompt for m in prompts}) == len(prompts)


def test_phrases():
    rng = random.Random(0)
    assert phrase(counting_metadata("cup", 3), rng) == "three cups"
    assert phrase(colors_metadata("umbrella", "orange"), rng) == "an orange umbrella"


def test_every_known_word_is_one_token():
    tokenizer = build_tokenizer()
    for word in known_words():
        assert len(tokenizer.encode(f"a {word}").ids) == 2, word
    assert {*KINDS, *COLORS, *(plural(kind) for kind in KINDS)} <= set(known_words())
    assert tokenizer.decode(tokenizer.encode(" a zebra").ids).strip() == "a zebra"
