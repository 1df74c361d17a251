"""Scenes put right: what stays, what moves, and rows whose labels the scorer confirms."""

import random
from dataclasses import replace

import pytest
import torch

from imagecot.contracts.detector import Detections
from imagecot.curation.dataset import read_rows
from imagecot.curation.repairs import Repairer, missed
from imagecot.generators import load_generator
from imagecot.geneval.prompts import (
    TASKS,
    color_attr_metadata,
    colors_metadata,
    counting_metadata,
    position_metadata,
    single_object_metadata,
    two_object_metadata,
)  # fmt: skip
from imagecot.geneval.rules import judge_detections
from imagecot.images import from_picture
from imagecot.worlds.drawn.captions import held_out_texts
from imagecot.worlds.drawn.dataset import example
from imagecot.worlds.drawn.detector import load_detector
from imagecot.worlds.drawn.repair import repaired, seen_scene
from imagecot.worlds.drawn.scenes import Item, Scene, apart, draw
from test_pictograms import truth

torch.set_num_threads(1)
CUP, APPLE = Item("cup", "green", 12, 12, 24, 0), Item("apple", "red", 52, 44, 24, 2)
SCENE = Scene((CUP, APPLE), "mint")


def put_right(metadata, scene=SCENE) -> set[Item]:
    found = repaired(scene, metadata, random.Random(0))
    assert found.background == scene.background
    assert judge_detections(metadata, *truth(found)).correct
    assert apart(found.items)
    return set(found.items)


def test_what_is_right_stays():
    assert put_right(two_object_metadata("apple", "cup")) == {CUP, APPLE}


def test_a_wrong_colour_changes_and_nothing_else():
    assert put_right(colors_metadata("cup", "blue")) == {replace(CUP, color="blue"), APPLE}
    swapped = {replace(CUP, color="red"), replace(APPLE, color="green")}
    assert put_right(color_attr_metadata("cup", "red", "apple", "green")) == swapped


def test_what_lacks_takes_the_place_of_what_nobody_asked_for():
    assert put_right(two_object_metadata("apple", "kite")) == {replace(CUP, kind="kite"), APPLE}
    alone = put_right(single_object_metadata("kite"), Scene((), "sky"))
    assert [item.kind for item in alone] == ["kite"]


def test_of_too_many_the_first_stay_and_of_too_few_the_rest_is_added():
    cups = Scene((CUP, replace(CUP, x=52), replace(CUP, y=44)), "sand")
    assert put_right(counting_metadata("cup", 2), cups) <= set(cups.items)
    assert put_right(counting_metadata("cup", 4), cups) > set(cups.items)


def test_of_a_wrong_relation_the_subject_moves():
    found = put_right(position_metadata("apple", "left of", "cup"))
    moved = next(item for item in found if item.kind == "apple")
    assert moved.x < next(item for item in found if item.kind == "cup").x
    assert moved.color == "red"
    below = put_right(position_metadata("apple", "above", "cup"))
    assert {item.kind for item in below} == {"apple", "cup"}


def test_objects_that_overlap_are_placed_again():
    both = Scene((CUP, replace(APPLE, x=12, y=20)), "rose")
    assert {item.kind for item in put_right(two_object_metadata("cup", "apple"), both)} == {"cup", "apple"}


def test_any_near_miss_can_be_put_right():
    tried = set()
    for number in range(200):
        rng = random.Random(number)
        scene = example(3, number).scene
        need = missed(scene, rng)
        if need is not None:
            tried.add(need.tag)
            assert need.prompt not in held_out_texts()
            assert not judge_detections(need, *truth(scene)).correct
            found = repaired(scene, need, rng)
            assert judge_detections(need, *truth(found)).correct
    assert tried == set(TASKS)


def test_a_seen_scene_is_the_one_that_was_drawn():
    boxes, colors = truth(SCENE)
    boxes["bird"], colors["bird"] = [[0, 40, 20, 60, 0.09]], ["blue"]  # too faint to be anything
    seen = seen_scene(from_picture(draw(SCENE)), Detections(boxes, colors))
    assert set(seen.items) == {replace(CUP, shade=1), replace(APPLE, shade=1)}
    assert seen.background == "mint"


@pytest.fixture(scope="module")
def repairer() -> Repairer:
    return Repairer(load_generator("tiny"), load_detector())


def test_rows_are_what_the_scorer_confirms(repairer, tmp_path):
    rows = repairer.scenes(range(12))
    assert {row.label for row in rows} == {"yes", "no"}
    assert len({row.id for row in rows}) == len(rows)
    assert all(len(row.codes) == 64 and row.question == "orm" for row in rows)
    wrong = [row for row in rows if row.label == "no"]
    repairs = repairer.images(wrong)
    assert len(repairs) >= len(wrong) // 2
    assert {row.label for row in repairs} == {"yes"}
    assert {row.prompt for row in repairs} <= {row.prompt for row in wrong}
    assert repairer.scenes(range(12))[0].image == rows[0].image


def test_curate_repairs_from_the_command_line(tmp_path):
    from typer.testing import CliRunner

    from imagecot.cli import app

    made = CliRunner().invoke(app, ["curate", "repairs", "--scenes", "3", "--out", str(tmp_path / "near")])
    assert made.exit_code == 0, made.output
    again = ["curate", "repairs", "--data", str(tmp_path / "near"), "--out", str(tmp_path / "repairs")]
    assert CliRunner().invoke(app, again).exit_code == 0
    assert {row.label for row in read_rows(tmp_path / "repairs")} == {"yes"}
    neither = CliRunner().invoke(app, ["curate", "repairs", "--out", str(tmp_path / "no")])
    assert neither.exit_code != 0
    unknown = ["curate", "repairs", "--scenes", "3", "--generator", "nobody", "--out", str(tmp_path / "no")]
    assert CliRunner().invoke(app, unknown).exit_code != 0
    assert not (tmp_path / "no").exists()
