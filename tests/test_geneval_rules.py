import gzip
import json
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from imagecot.errors import UsageError
from imagecot.geneval import judge_detections
from imagecot.geneval.prompts import COLORS
from imagecot.geneval.rules import Judgment, kept_indices, overlap, relations

DATA = Path(__file__).parent / "data" / "geneval"
LINES = gzip.decompress((DATA / "rule_cases.jsonl.gz").read_bytes()).splitlines()
CASES = [json.loads(line) for line in LINES]
IDS = [case["id"] for case in CASES]
BOX = [10.0, 10.0, 20.0, 20.0]


def f32(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def judge(include: list[dict], detections: dict, colors: dict | None = None, **more: object) -> Judgment:
    metadata = {"tag": "custom", "prompt": "custom", "include": include, "exclude": more.pop("exclude", [])}
    return judge_detections(metadata, detections, colors or {}, **more)


def test_all_recorded_cases_are_there() -> None:
    assert len(CASES) == 410


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_recorded_verdicts_of_the_reference(case: dict) -> None:
    judgment = judge_detections(case["metadata"], case["detections"], case["colors"], **case.get("options", {}))
    expected = case["expected"]
    assert judgment.correct is expected["correct"]
    assert judgment.reason in expected.get("reason_alternatives", [expected["reason"]])


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_classifier_is_asked_what_the_reference_asks(case: dict) -> None:
    asked = []

    def classify(name: str, boxes: np.ndarray, indices: list[int]) -> list[str]:
        np.testing.assert_array_equal(boxes, f32(*case["detections"][name])[indices])
        asked.append([name, indices])
        return [case["colors"][name][i] for i in indices]

    judgment = judge_detections(case["metadata"], case["detections"], classify, **case.get("options", {}))
    assert asked == case["trace"]["color_queries"]
    assert judgment.correct is case["expected"]["correct"]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_recorded_kept_detections(case: dict) -> None:
    options = case.get("options", {})
    least = {"threshold": 0.3, "counting_threshold": 0.9} | options
    counting = case["metadata"]["tag"] == "counting"
    for name, kept in case["trace"]["kept"].items():
        indices = kept_indices(
            f32(*case["detections"][name]),
            threshold=least["counting_threshold" if counting else "threshold"],
            max_objects=options.get("max_objects", 16),
            max_overlap=options.get("max_overlap", 1.0),
        )
        assert indices == kept


def test_threshold_is_strict_and_in_float32() -> None:
    # 0.30000001 rounds to float32(0.3), the next float32 is 0.30000004
    boxes = f32([*BOX, 0.3], [*BOX, 0.30000001], [*BOX, 0.30000004])
    assert kept_indices(boxes, threshold=0.3) == [2]
    assert kept_indices(boxes, threshold=np.float64(0.3)) == [2]


def test_ties_go_to_the_later_detection() -> None:
    assert kept_indices(f32(*([*BOX, 0.5] for _ in range(40)))) == list(range(39, 23, -1))


def test_overlap_counts_the_last_pixel() -> None:
    # 10 × 10 and 10 × 5 pixels, one inside the other
    assert overlap(f32([0, 0, 9, 9])[0], f32([0, 0, 9, 4])[0]) == 0.5
    # half a pixel apart: the shared strip is half a pixel wide: 0.5·11 of 2·121 − 5.5
    assert overlap(f32([0, 0, 10, 10])[0], f32([10.5, 0, 20.5, 10])[0]) == 5.5 / 236.5
    assert overlap(f32([5, 5, 5, 5])[0], f32([5, 5, 5, 5])[0]) == 1
    assert overlap(f32([5, 5, 4, 4])[0], f32([5, 5, 4, 4])[0]) == 0


def test_relations_by_hand() -> None:
    target = f32([100, 100, 140, 140])[0]
    # offset (-100, 0), sizes 40 + 40, shortened to -92: d = -0.92
    assert relations(f32([0, 100, 40, 140])[0], target) == ["left of"]
    # offset (100, -100): (92, -92) / 141.4 = (0.65, -0.65)
    assert relations(f32([200, 0, 240, 40])[0], target) == ["right of", "above"]
    # offset (10, 0), shortened by 8: 0.2
    assert relations(f32([110, 100, 150, 140])[0], target) == []
    assert relations(target, target) == []
    # a larger threshold takes the whole offset
    assert relations(f32([0, 100, 40, 140])[0], target, position_threshold=1.25) == []


def test_reason_has_one_line_per_failure_and_a_failed_target_is_no_target() -> None:
    include = [
        {"class": "cat", "count": 2},
        {"class": "car", "count": 1, "color": "pink"},
        {"class": "dog", "count": 1, "position": ["above", 0]},
        {"class": "cup", "count": 1, "position": ["left of", -2]},
    ]
    boxes = {name: [[*BOX, 0.9]] for name in ("cat", "car", "dog", "cup")}
    judgment = judge(
        include, boxes, {"car": ["red"]}, exclude=[{"class": "cup", "count": 1}, {"class": "dog", "count": 2}]
    )
    assert judgment == Judgment(
        False,
        "expected cat>=2, found 1\nexpected pink car>=1, found 0 pink; and 1 red\n"
        "no target for dog to be above\nno target for cup to be left of\nexpected cup<1, found 1",
    )


def test_found_colours_are_listed_in_the_order_of_the_colours() -> None:
    include = [{"class": "car", "count": 4, "color": "green"}]
    boxes = {"car": [[*BOX, 0.9], [*BOX, 0.8], [*BOX, 0.7], [*BOX, 0.6], [*BOX, 0.5]]}
    answers = {"car": ["white", "blue", "red", "blue", "green"]}
    reason = "expected green car>=4, found 0 green; and 1 red, 2 blue, 1 white"
    assert judge(include, boxes, answers) == Judgment(False, reason)


def test_position_is_not_looked_at_after_a_failed_count() -> None:
    # index 7 does not exist, but the requirement fails before its position
    judgment = judge([{"class": "dog", "count": 1, "position": ["above", 7]}], {})
    assert judgment == Judgment(False, "expected dog>=1, found 0")


def test_exclude_of_zero_fails_if_there_is_one() -> None:
    judgment = judge([], {"dog": [[*BOX, 0.9]]}, exclude=[{"class": "dog", "count": 0}])
    assert judgment == Judgment(False, "expected dog<0, found 1")


@pytest.mark.parametrize(
    "metadata",
    [
        {"prompt": "p"},
        {"tag": "t"},
        {"tag": "t", "prompt": "p", "include": None},
        {"tag": "t", "prompt": "p", "include": ["dog"]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog"}]},
        {"tag": "t", "prompt": "p", "include": [{"count": 1}]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog", "count": -1}]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog", "count": 1.5}]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog", "count": 1, "position": ["above", 0]}]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog", "count": 1, "position": ["above", -1]}]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog", "count": 1, "position": ["above", "0"]}]},
        {"tag": "t", "prompt": "p", "include": [{"class": "dog", "count": 1, "position": "above"}]},
        {"tag": "t", "prompt": "p", "exclude": [{"class": "dog"}]},
        {"tag": "t", "prompt": "p", "exclude": [{"class": "cat", "count": 0}]},
    ],
)
def test_malformed_metadata_is_refused(metadata: dict) -> None:
    with pytest.raises(UsageError):
        judge_detections(metadata, {"dog": [[*BOX, 0.9]]}, {})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threshold", -0.1),
        ("threshold", float("nan")),
        ("threshold", "0.3"),
        ("counting_threshold", 1.1),
        ("max_objects", -1),
        ("max_objects", 2.5),
        ("max_objects", True),
        ("max_overlap", -1),
        ("position_threshold", -0.1),
        ("position_threshold", None),
    ],
)
def test_bad_options_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{option} "):
        judge([], {}, **{option: value})


@pytest.mark.parametrize(
    "rows", [[[1, 2, 3, 4]], [1, 2, 3, 4, 5], [[*BOX, float("nan")]], [[*BOX, "x"]], [[*BOX, 0.9], [1]]]
)
def test_malformed_detections_are_refused(rows: list) -> None:
    with pytest.raises(UsageError, match="dog"):
        judge([{"class": "dog", "count": 1}], {"dog": rows})


def test_missing_colours_are_refused() -> None:
    include = [{"class": "dog", "count": 1, "color": "red"}]
    boxes = {"dog": [[*BOX, 0.8], [*BOX, 0.9]]}
    with pytest.raises(UsageError, match="colours of dog"):
        judge(include, boxes)
    with pytest.raises(UsageError, match="colours of dog"):
        judge(include, boxes, {"dog": ["red"]})
    with pytest.raises(UsageError, match="0 answers for 1"):
        judge(include, boxes, lambda name, kept, indices: [])


def test_seeded_scenes_agree_with_the_rules_written_out() -> None:
    """Counts and colours of random scenes, decided again by the definition instead of the code path."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(300):
        k, count = int(rng.integers(1, 6)), int(rng.integers(1, 4))
        scores = rng.permutation(np.linspace(0.2, 0.95, k)) if k > 1 else np.array([0.5])
        answers = [COLORS[i] for i in rng.integers(0, 2, k)]
        boxes = [[*BOX, s] for s in scores]
        best = sorted((s, a) for s, a in zip(scores, answers, strict=True) if s > 0.3)[::-1][:count]
        expected = len(best) == count and all(a == "red" for _, a in best)
        include = [{"class": "dog", "count": count, "color": "red"}]
        verdicts.append(expected)
        assert judge(include, {"dog": boxes}, {"dog": answers}).correct is expected
    assert 0 < sum(verdicts) < 300


def test_judging_is_fast() -> None:
    small = [case for case in CASES if case["group"] in ("two_object", "color_attr", "position")]
    start = perf_counter()
    for case in small:
        judge_detections(case["metadata"], case["detections"], case["colors"], **case.get("options", {}))
    # measured: more than ten thousand a second on one core; the margin is for busy machines
    assert len(small) / (perf_counter() - start) > 500
