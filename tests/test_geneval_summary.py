import gzip
import json
import math
from pathlib import Path

import pytest

from imagecot.errors import UsageError
from imagecot.geneval import summarize
from imagecot.geneval.prompts import load_benchmark_prompts
from imagecot.geneval.summary import Verdict, compare, format_summary

DATA = Path(__file__).parent / "data" / "geneval"
CASES = json.loads(gzip.decompress((DATA / "summary_cases.json.gz").read_bytes()))["cases"]


def row(tag: str, metadata: object, correct: object) -> dict:
    return {"tag": tag, "metadata": metadata, "correct": correct}


def rows_of(case: dict) -> list[dict]:
    if "rows" in case:
        return [row(tag, case["metadata"][i], bool(correct)) for tag, i, correct in case["rows"]]
    prompts = load_benchmark_prompts()
    return [
        row(prompts[line].tag, prompts[line].text, bool(correct))
        for line, images in case["rows_by_metadata_line"]
        for correct in images
    ]


# prompt p1: 2 of 2 right, p2: 1 of 4, p3: 0 of 2; a second task of prompts q1: 3 of 4, q2: 1 of 4
TWO_TASKS = [
    *(row("two_object", "p1", c) for c in (1, 1)),
    *(row("two_object", "p2", c) for c in (0, 0, 1, 0)),
    *(row("two_object", "p3", c) for c in (0, 0)),
    *(row("colors", "q1", c) for c in (1, 1, 0, 1)),
    *(row("colors", "q2", c) for c in (0, 1, 0, 0)),
]


def test_all_recorded_tables_are_there() -> None:
    assert len(CASES) == 25


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_recorded_tables_of_the_reference(case: dict) -> None:
    expected, summary = case["expected"], summarize(rows_of(case))
    assert format_summary(summary) == expected["stdout"]
    for key in ("total_images", "total_prompts", "correct_images", "correct_prompts", "overall"):
        assert getattr(summary, key) == expected[key]
    tasks = [
        {"tag": tag, "correct": task.correct, "total": task.total, "score": task.score}
        for tag, task in summary.tasks.items()
    ]
    assert tasks == expected["tasks"]


def test_metadata_may_be_a_dict() -> None:
    metadata = {"tag": "colors", "prompt": "a photo of a red dog"}
    summary = summarize([row("colors", metadata, True), row("colors", json.dumps(metadata), False)])
    assert (summary.total_images, summary.total_prompts) == (2, 1)


def test_standard_errors_by_hand() -> None:
    summary = summarize(TWO_TASKS)
    # two_object: ratio 3/8; residuals 2 - 2·3/8 = 1.25, 1 - 4·3/8 = -0.5, 0 - 2·3/8 = -0.75
    # squares 1.5625 + 0.25 + 0.5625 = 2.375; × 3/2 = 3.5625; root / 8
    two = math.sqrt(3.5625) / 8
    # colors: ratio 1/2; residuals 1 and -1; 2 × 2/1 = 4; 2 / 8
    colors = 0.25
    assert summary.tasks["two_object"].se == pytest.approx(two, rel=1e-12)
    assert summary.tasks["colors"].se == pytest.approx(colors, rel=1e-12)
    assert summary.overall == pytest.approx((0.375 + 0.5) / 2)
    assert summary.overall_se == pytest.approx(math.sqrt(two**2 + colors**2) / 2, rel=1e-12)


def test_error_of_one_prompt_is_unknown() -> None:
    summary = summarize([*TWO_TASKS, row("counting", "r1", True), row("counting", "r1", False)])
    assert summary.tasks["counting"].se is None
    assert summary.overall_se is None
    assert summary.tasks["colors"].se is not None


def test_verdicts_and_rows_give_one_table() -> None:
    verdicts = [Verdict(r["tag"], r["metadata"], bool(r["correct"])) for r in TWO_TASKS]
    assert summarize(verdicts) == summarize(TWO_TASKS)
    assert compare(verdicts, TWO_TASKS).only_a == 0


def test_rows_are_needed_and_must_be_complete() -> None:
    with pytest.raises(UsageError, match="no results"):
        summarize([])
    with pytest.raises(UsageError, match=r"Row 1 .*'correct'"):
        summarize([row("colors", "q", True), {"tag": "colors", "metadata": "q"}])


def test_comparison_by_hand() -> None:
    flips = {2: 1, 3: 1, 6: 1, 8: 0}  # two_object + 3 of 8 images, colors - 1 of 8
    better = [{**r, "correct": flips.get(i, r["correct"])} for i, r in enumerate(TWO_TASKS)]
    result = compare(better, TWO_TASKS)
    assert (result.only_a, result.only_b) == (3, 1)
    assert result.difference == pytest.approx((3 / 8 - 1 / 8) / 2)
    assert result.p_value == 2 * (1 + 4) / 16
    # gains by prompt: p1 0 of 2, p2 2 of 4, p3 1 of 2; q1 -1 of 4, q2 0 of 4.
    # two_object is 0 when only p1 is drawn (1/27); colors is -1/4, -1/8, 0 with 1/4, 1/2, 1/4.
    # Lowest: (0 - 1/4) has 1/108 < 2.5 %, (0 - 1/8) adds 1/54 and reaches it: the quantile is their half.
    assert result.low == pytest.approx(-1 / 16)
    # the best is 1/2 (no p1: 8/27) with q1 never (1/4): 7.4 %, so the upper quantile is (1/2 + 0) / 2
    assert result.high == pytest.approx(1 / 4)
    assert compare(TWO_TASKS, better).difference == -result.difference


def test_comparison_pairs_images_of_a_prompt_in_any_row_order() -> None:
    a = [row("colors", "q1", 1), row("colors", "q1", 0), row("colors", "q2", 1), row("colors", "q2", 1)]
    b = [a[2], a[0], a[3], a[1]]
    result = compare(a, b)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)
    assert (result.only_a, result.only_b) == (0, 0)


def test_bootstrap_is_seeded_and_agrees_with_the_standard_error() -> None:
    prompts = load_benchmark_prompts()
    a = [row(p.tag, p.as_json(), (i * 7 + k * 3) % 5 < 3) for i, p in enumerate(prompts) for k in range(4)]
    none = [row(p.tag, p.as_json(), False) for p in prompts for _ in range(4)]
    result, summary = compare(a, none), summarize(a)
    assert result == compare(a, none)
    assert result != compare(a, none, seed=1)
    # against all-wrong rows the difference is A's own score, so the interval is that of its standard error
    assert result.difference == pytest.approx(summary.overall)
    assert summary.overall_se is not None
    assert (result.high - result.low) / 2 == pytest.approx(1.96 * summary.overall_se, rel=0.04)


def test_unpaired_tables_are_refused() -> None:
    with pytest.raises(UsageError, match="4 against 3 for q2"):
        compare(TWO_TASKS, TWO_TASKS[:-1])
    with pytest.raises(UsageError, match="0 against 1 for new"):
        compare(TWO_TASKS, [*TWO_TASKS, row("colors", "new", True)])
    with pytest.raises(UsageError, match="confidence"):
        compare(TWO_TASKS, TWO_TASKS, confidence=1.0)
